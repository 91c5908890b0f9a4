#include "square_root.c"

/* tinymvit/ops/layer_norm.py: each token by itself.
 *
 *     y = (x - mean) / sqrt(variance + eps) * weight + bias */
static void layer_norm(float *y, const float *x, const float *weight, const float *bias, int tokens, int width,
                       float eps)
{
    for (int t = 0; t < tokens; t++, x += width, y += width) {
        float mean = 0.0f, variance = 0.0f;
        for (int i = 0; i < width; i++)
            mean += x[i];
        mean = mean / (float)width;
        for (int i = 0; i < width; i++)
            variance += (x[i] - mean) * (x[i] - mean);
        const float deviation = square_root(variance / (float)width + eps);
        for (int i = 0; i < width; i++)
            y[i] = (x[i] - mean) / deviation * weight[i] + bias[i];
    }
}
