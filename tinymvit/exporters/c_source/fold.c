/* tinymvit/ops/unfold.py, Fold: x (pixels of a patch, patches, width) -> y (width, map_height, map_width). */
static void fold(float *y, const float *x, int width, int map_height, int map_width, int height, int width_of_patch)
{
    for (int u = 0; u < height; u++)
        for (int v = 0; v < width_of_patch; v++)
            for (int i = u; i < map_height; i += height)
                for (int j = v; j < map_width; j += width_of_patch)
                    for (int d = 0; d < width; d++)
                        y[((size_t)d * map_height + i) * map_width + j] = *x++;
}
