/* tinymvit/ops/activation.py: x if x >= 0, else 0.01 x */
static void activate_leaky_relu(float *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] = x[i] >= 0.0f ? x[i] : x[i] * 0.01f;
}
