/* tinymvit/ops/activation.py: x min(max(x + 3, 0), 6) / 6 */
static void activate_hardswish(float *x, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const float shifted = x[i] + 3.0f;
        x[i] = x[i] * (shifted < 0.0f ? 0.0f : shifted > 6.0f ? 6.0f : shifted) / 6.0f;
    }
}
