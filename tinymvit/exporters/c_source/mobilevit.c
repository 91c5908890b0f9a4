/* A MobileViT, written by tinymvit. The functions stand here as in tinymvit/exporters/c_source; each names the file of
 * tinymvit that says what it means. At the end are their calls. Each value bears the name of its node. Compiled
 * with -ffp-contract=off and without -ffast-math, all values have the same bits on every machine. */
${functions}

/* ---- the network ---- */

const mobilevit_node mobilevit_nodes[MOBILEVIT_NODES] = {
${nodes}};

/* One image. */
static void run(${parameters}, const tracing *trace)
{
    const float *const weights = mobilevit_weights.values;
${multiples}
${statements}
}

void mobilevit_trace(${parameters}, mobilevit_visit visit, void *user)
{
    for (size_t i = 0; i < MOBILEVIT_BATCH; i++) {
        const tracing trace = {visit, user, i};
        run(${image_arguments}, arena, &trace);
    }
}

void mobilevit_run(${parameters})
{
    mobilevit_trace(${arguments}, arena, NULL, NULL);
}

void mobilevit_softmax(float *x, int count)
{
    softmax(x, count);
}
