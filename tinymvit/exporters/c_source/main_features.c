/* The first numbers of each result. */
static void print_answer(int number)
{
    for (int i = 1; i < TENSORS; i++) {
        const size_t count = tensors[i].size / sizeof(float) / MOBILEVIT_BATCH;
        const float *values = (const float *)tensors[i].data + number * count;
        printf("%s:", tensors[i].name);
        for (size_t k = 0; k < count && k < 6; k++)
            printf(" %.6g", values[k]);
        printf(count > 6 ? " ...\n" : "\n");
    }
}
