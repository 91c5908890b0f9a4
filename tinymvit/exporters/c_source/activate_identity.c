/* tinymvit/ops/activation.py: x */
static void activate_identity(float *x, size_t count)
{
    (void)x, (void)count;
}
