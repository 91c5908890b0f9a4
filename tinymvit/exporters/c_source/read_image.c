/* A picture, RGB (pixels, 3), becomes pixel_values (3, pixels); with `flips`, in the order BGR. */
static void read_image(float *y, const unsigned char *image, size_t pixels, float factor, int flips)
{
    for (int c = 0; c < 3; c++)
        for (size_t p = 0; p < pixels; p++)
            *y++ = (float)image[3 * p + (flips ? 2 - c : c)] * factor;
}
