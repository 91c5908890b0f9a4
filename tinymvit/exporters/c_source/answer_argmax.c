/* Logits (classes, pixels) become the number of the best class at each pixel, the first of equal ones. */
static void answer_argmax(int32_t *best, const float *logits, int classes, size_t pixels)
{
    for (size_t p = 0; p < pixels; p++) {
        best[p] = 0;
        for (int c = 1; c < classes; c++)
            if (logits[c * pixels + p] > logits[best[p] * pixels + p])
                best[p] = c;
    }
}
