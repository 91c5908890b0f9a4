#include "exponential.c"

/* tinymvit/ops/attention.py, Softmax: a row of numbers becomes probabilities.
 *
 *     x[k] = e^(x[k] - largest) / sum over j of e^(x[j] - largest) */
static void softmax(float *x, int count)
{
    float largest = x[0], sum = 0.0f;
    for (int k = 1; k < count; k++)
        largest = x[k] > largest ? x[k] : largest;
    for (int k = 0; k < count; k++)
        x[k] = exponential(x[k] - largest);
    for (int k = 0; k < count; k++)
        sum += x[k];
    for (int k = 0; k < count; k++)
        x[k] = x[k] / sum;
}
