/* tinymvit/ops/resize.py: bilinear interpolation, align_corners=False. */
typedef struct {
    int before, after;
    float t; /* how far the point lies between them */
} neighbours;

static neighbours neighbours_of(int i, int size, int new_size)
{
    const double scale = (double)((float)size / (float)new_size), at = ((double)i + 0.5) * scale - 0.5;
    const float place = at > 0.0 ? (float)at : 0.0f;
    neighbours n;
    n.before = (int)place < size - 1 ? (int)place : size - 1;
    n.after = n.before + 1 < size - 1 ? n.before + 1 : size - 1;
    n.t = place - (float)n.before;
    return n;
}

/* x (channels, height, width) -> y (channels, new_height, new_width). */
static void resize(float *y, const float *x, int channels, int height, int width, int new_height, int new_width)
{
    for (int c = 0; c < channels; c++, x += (size_t)height * width)
        for (int i = 0; i < new_height; i++) {
            const neighbours row = neighbours_of(i, height, new_height);
            const float *above = x + (size_t)row.before * width, *below = x + (size_t)row.after * width;
            for (int j = 0; j < new_width; j++) {
                const neighbours column = neighbours_of(j, width, new_width);
                const float left = above[column.before] * (1.0f - row.t) + below[column.before] * row.t;
                const float right = above[column.after] * (1.0f - row.t) + below[column.after] * row.t;
                *y++ = left * (1.0f - column.t) + right * column.t;
            }
        }
}
