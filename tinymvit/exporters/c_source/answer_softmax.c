#include "softmax.c"

/* Logits (classes, pixels) become the probabilities of the classes at each pixel. scratch: a number for each class. */
static void answer_softmax(float *probabilities, const float *logits, int classes, size_t pixels, float *scratch)
{
    for (size_t p = 0; p < pixels; p++) {
        for (int c = 0; c < classes; c++)
            scratch[c] = logits[c * pixels + p];
        softmax(scratch, classes);
        for (int c = 0; c < classes; c++)
            probabilities[c * pixels + p] = scratch[c];
    }
}
