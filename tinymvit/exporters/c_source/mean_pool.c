/* tinymvit/ops/mean_pool.py: the mean of each channel, the sums of the rows being summed from the top. */
static void mean_pool(float *y, const float *x, int channels, int height, int width)
{
    for (int c = 0; c < channels; c++) {
        float sum = 0.0f;
        for (int i = 0; i < height; i++) {
            float row = 0.0f;
            for (int j = 0; j < width; j++)
                row += *x++;
            sum += row;
        }
        y[c] = sum / (float)(height * width);
    }
}
