/* tinymvit/ops/activation.py: min(max(x, 0), 6) */
static void activate_relu6(float *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] = x[i] < 0.0f ? 0.0f : x[i] > 6.0f ? 6.0f : x[i];
}
