#include "conv2d.c"

/* tinymvit/ops/conv2d.py with as many groups as channels: each channel is filtered by itself.
 *
 *     y[c, i, j] = bias[c] + sum over u, v of weight[c, u, v] x[c, s i + d u - p, s j + d v - p]
 *
 * A channel is copied into a frame of zeros first, and therefore y may lie where x lies if it is no larger. s.inputs is
 * the number of channels. scratch: (height + 2 p, width + 2 p), then kernel kernel. */
static void depthwise_conv2d(float *y, const float *x, matrix weight, const float *bias, conv2d_shape s,
                             float *scratch)
{
    const int rows = conv2d_side(s.height, s), columns = conv2d_side(s.width, s);
    const int wide = s.width + 2 * s.padding, high = s.height + 2 * s.padding;
    float *const framed = scratch, *const room = scratch + (size_t)high * wide;
    for (size_t p = 0; p < (size_t)high * wide; p++)
        framed[p] = 0.0f;
    for (int c = 0; c < s.inputs; c++) {
        const float *w = read_rows(weight, c, 1, s.kernel * s.kernel, room).values;
        for (int i = 0; i < s.height; i++, x += s.width)
            memcpy(framed + (size_t)(i + s.padding) * wide + s.padding, x, s.width * sizeof *x);
        for (int i = 0; i < rows; i++, y += columns) {
            for (int j = 0; j < columns; j++)
                y[j] = bias ? bias[c] : 0.0f;
            for (int u = 0; u < s.kernel; u++)
                for (int v = 0; v < s.kernel; v++) {
                    const float *seen = framed + (size_t)(i * s.stride + u * s.dilation) * wide + v * s.dilation;
                    for (int j = 0; j < columns; j++)
                        y[j] += w[u * s.kernel + v] * seen[j * s.stride];
                }
        }
    }
}
