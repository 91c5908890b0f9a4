/* tinymvit/ops/batch_norm.py, in place, where folding it into the convolution before it would be seen.
 *
 *     x = (x - mean) / deviation * weight + bias,    deviation = sqrt(variance + eps) */
static void batch_norm(float *x, const float *weight, const float *bias, const float *mean, const float *deviation,
                       int channels, size_t pixels)
{
    for (int c = 0; c < channels; c++)
        for (size_t p = 0; p < pixels; p++, x++)
            *x = (*x - mean[c]) / deviation[c] * weight[c] + bias[c];
}
