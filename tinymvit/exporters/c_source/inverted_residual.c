#include "depthwise_conv2d.c"

/* tinymvit/ops/inverted_residual.py: expand, filter each channel by itself, reduce.
 *
 *     y = reduce(activation(depthwise(activation(expand(x)))))
 *
 * CHANNELS of the wide map at a time, so that it never exists as a whole: each of its channels is filtered by itself,
 * and reduce takes them from the first to the last. scratch: CHANNELS maps as wide as x, then what convolve and
 * depthwise_conv2d need. nodes: the numbers of the four values between. */
enum { CHANNELS = 8 };

static void inverted_residual(float *y, const float *x, const matrix weights[3], const float *const biases[3],
                              conv2d_shape filter, int narrow, int outputs, void (*activate)(float *, size_t),
                              float *scratch, const tracing *trace, const int nodes[4])
{
    const int wide = filter.inputs, height = conv2d_side(filter.height, filter),
              width = conv2d_side(filter.width, filter);
    const size_t before = (size_t)filter.height * filter.width, after = (size_t)height * width;
    float *const maps = scratch, *const rest = scratch + CHANNELS * before;
    begin_maps(y, biases[2], outputs, after);
    for (int c = 0; c < wide; c += CHANNELS) {
        const int count = wide - c < CHANNELS ? wide - c : CHANNELS;
        const conv2d_shape expand = {narrow, count, filter.height, filter.width, 1, 1, 0, 1};
        const conv2d_shape reduce = {count, outputs, height, width, 1, 1, 0, 1};
        conv2d(maps, x, part(weights[0], c, 0), biases[0] + c, expand, rest);
        show(trace, nodes[0], maps, c * before, count * before);
        activate(maps, count * before);
        show(trace, nodes[1], maps, c * before, count * before);
        filter.inputs = count;
        depthwise_conv2d(maps, maps, part(weights[1], c, 0), biases[1] + c, filter, rest);
        show(trace, nodes[2], maps, c * after, count * after);
        activate(maps, count * after);
        show(trace, nodes[3], maps, c * after, count * after);
        convolve(y, maps, part(weights[2], 0, c), reduce, rest);
    }
}
