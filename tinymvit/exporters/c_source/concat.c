/* tinymvit/ops/concat.py: the channels of one input after those of another. */
static void concat(float *y, const float *const inputs[], const size_t sizes[], int count)
{
    for (int i = 0; i < count; y += sizes[i++])
        memcpy(y, inputs[i], sizes[i] * sizeof *y);
}
