static int best_class(int number, int pixel)
{
${best}}

/* How much of an image each class takes. */
static void print_answer(int number)
{
    int count[CLASSES] = {0};
    for (int pixel = 0; pixel < PIXELS; pixel++)
        count[best_class(number, pixel)]++;
    for (int c = 0; c < CLASSES; c++)
        if (count[c])
            printf("%6.2f%%  %s\n", 100.0 * count[c] / PIXELS, labels[c]);
}
