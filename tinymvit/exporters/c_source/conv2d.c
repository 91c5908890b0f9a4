#include "product.c"
#include "weights.c"

/* tinymvit/ops/conv2d.py, without groups.
 *
 *     y[o, i, j] = bias[o] + sum over c, u, v of weight[o, c, u, v] x[c, s i + d u - p, s j + d v - p]
 *
 * TILE output pixels at a time: what their sums read is gathered into rows, (inputs kernel kernel, TILE), with zeros
 * for what lies outside the map. Then it is a matrix product, whose terms come in the order of c, u, v. */
typedef struct {
    int inputs, outputs, height, width, kernel, stride, padding, dilation;
} conv2d_shape;

static int conv2d_side(int side, conv2d_shape s)
{
    return (side + 2 * s.padding - s.dilation * (s.kernel - 1) - 1) / s.stride + 1;
}

static void gather(float *patches, const float *x, conv2d_shape s, int first, int count)
{
    const int columns = conv2d_side(s.width, s);
    const size_t area = (size_t)s.kernel * s.kernel, size = (size_t)s.height * s.width;
    for (int u = 0; u < s.kernel; u++)
        for (int v = 0; v < s.kernel; v++, patches += TILE) {
            int place[TILE]; /* in the input map, for each output pixel; -1 outside */
            for (int n = 0; n < TILE; n++) {
                const int i = (first + n) / columns * s.stride - s.padding + u * s.dilation;
                const int j = (first + n) % columns * s.stride - s.padding + v * s.dilation;
                const int inside = n < count && i >= 0 && i < s.height && j >= 0 && j < s.width;
                place[n] = inside ? i * s.width + j : -1;
            }
            for (int c = 0; c < s.inputs; c++)
                for (int n = 0; n < TILE; n++)
                    patches[c * area * TILE + n] = place[n] >= 0 ? x[c * size + place[n]] : 0.0f;
        }
}

/* With a kernel of one pixel and stride 1, the rows are parts of the channels. */
static void gather_pixels(float *patches, const float *x, int inputs, size_t pixels, int count)
{
    for (int c = 0; c < inputs; c++, x += pixels, patches += TILE) {
        memcpy(patches, x, count * sizeof *x);
        memset(patches + count, 0, (TILE - count) * sizeof *x);
    }
}

/* Adds the products to y. scratch: (inputs kernel kernel, TILE + ROWS). */
static void convolve(float *y, const float *x, matrix weight, conv2d_shape s, float *scratch)
{
    const int depth = s.inputs * s.kernel * s.kernel;
    const int pixels = conv2d_side(s.height, s) * conv2d_side(s.width, s);
    float *const patches = scratch, *const room = scratch + depth * TILE;
    for (int first = 0; first < pixels; first += TILE) {
        const int count = pixels - first < TILE ? pixels - first : TILE;
        if (s.kernel == 1 && s.stride == 1)
            gather_pixels(patches, x + first, s.inputs, pixels, count);
        else
            gather(patches, x, s, first, count);
        for (int o = 0; o < s.outputs; o += ROWS) {
            const int rows = s.outputs - o < ROWS ? s.outputs - o : ROWS;
            const block w = read_rows(weight, o, rows, depth, room);
            product(y + (size_t)o * pixels + first, pixels, w.values, w.row, patches, rows, depth, count);
        }
    }
}

/* What each sum begins with: the bias of its channel, or 0 if there is none. */
static void begin_maps(float *y, const float *bias, int channels, size_t pixels)
{
    for (int c = 0; c < channels; c++)
        for (size_t p = 0; p < pixels; p++)
            *y++ = bias ? bias[c] : 0.0f;
}

/* x (inputs, height, width) -> y (outputs, height', width'). bias may be NULL. */
static void conv2d(float *y, const float *x, matrix weight, const float *bias, conv2d_shape s, float *scratch)
{
    begin_maps(y, bias, s.outputs, (size_t)conv2d_side(s.height, s) * conv2d_side(s.width, s));
    convolve(y, x, weight, s, scratch);
}
