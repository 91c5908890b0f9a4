/* The best five classes of an image, with their probabilities. */
static void print_answer(int number)
{
    float p[CLASSES];
    memcpy(p, ${result} + number * CLASSES, sizeof p);
${softmax}    for (int place = 0; place < 5 && place < CLASSES; place++) {
        int best = 0;
        for (int c = 1; c < CLASSES; c++)
            if (p[c] > p[best])
                best = c;
        printf("%6.2f%%  %s\n", 100.0 * p[best], labels[best]);
        p[best] = -1.0f;
    }
}
