/* tinymvit/ops/activation.py: max(x, 0) */
static void activate_relu(float *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] = x[i] < 0.0f ? 0.0f : x[i];
}
