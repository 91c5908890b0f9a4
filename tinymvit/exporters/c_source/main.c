/* A program around mobilevit.c. It reads inputs from stdin, one after the other, each of them
 * ${input}, and prints what the network makes of it.
 *
 *     --raw              writes the results as they are in memory, one after the other
 *     --trace FOLDER     writes every node's value into a folder that is there, as `tinymvit compare` reads it
 *     --describe         prints the names, types and shapes of input and results */
#include "mobilevit.h"

#include <stdio.h>
#include <string.h>
#ifdef _WIN32
#include <fcntl.h>
#include <io.h>
#endif

${data}
static float arena[MOBILEVIT_ARENA];

static const struct {
    const char *name, *type;
    int rank, shape[4];
    const void *data;
    size_t size;
} tensors[] = {
    /* the input, then the results */
${tensors}
};
enum { TENSORS = sizeof tensors / sizeof *tensors };

${answer}

static int complain(const char *what, const char *expected)
{
    fprintf(stderr, "%s: expected %s\n", what, expected);
    return 1;
}

static int failed;

static void write_piece(void *user, const mobilevit_node *node, const float *data, size_t first, size_t count)
{
    char path[4096];
    const char *folder = user;
    snprintf(path, sizeof path, "%s/%s.bin", folder, node->name);
    FILE *file = fopen(path, first ? "ab" : "wb");
    if (!file || fwrite(data, sizeof *data, count, file) < count)
        failed = 1;
    if (file && fclose(file))
        failed = 1;
}

static int write_manifest(const char *folder)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/manifest.json", folder);
    FILE *file = fopen(path, "wb");
    if (!file || failed)
        return complain(folder, "a folder that can be written into, with room");
    fprintf(file, "{\"producer\": \"tinymvit's C\", \"tensors\": [\n");
    for (int i = 0; i < MOBILEVIT_NODES; i++) {
        const mobilevit_node *node = &mobilevit_nodes[i];
        fprintf(file, "{\"name\": \"%s\", \"dtype\": \"float32\", \"file\": \"%s.bin\", \"shape\": [", node->name,
                node->name);
        for (int k = 0; k < node->rank; k++)
            fprintf(file, k ? ", %d" : "%d", node->shape[k]);
        fprintf(file, i + 1 < MOBILEVIT_NODES ? "]},\n" : "]}\n]}\n");
    }
    return fclose(file) ? complain(folder, "room on the disk") : 0;
}

static void describe(void)
{
    for (int i = 0; i < TENSORS; i++) {
        printf("%s %s", tensors[i].name, tensors[i].type);
        for (int k = 0; k < tensors[i].rank; k++)
            printf(" %d", tensors[i].shape[k]);
        printf("\n");
    }
}

int main(int argc, char **argv)
{
    const int raw = argc == 2 && !strcmp(argv[1], "--raw");
    char *folder = argc == 3 && !strcmp(argv[1], "--trace") ? argv[2] : NULL;
    if (argc == 2 && !strcmp(argv[1], "--describe")) {
        describe();
        return 0;
    }
    if (argc > 1 && !raw && !folder)
        return complain(argv[1], "--raw, --trace FOLDER or --describe");
#ifdef _WIN32
    _setmode(_fileno(stdin), _O_BINARY);
    _setmode(_fileno(stdout), raw ? _O_BINARY : _O_TEXT);
#endif
    size_t count, inputs = 0;
    while ((count = fread(${given}, 1, sizeof ${given}, stdin)) == sizeof ${given}) {
        inputs++;
        if (folder) {
            mobilevit_trace(${arguments}, arena, write_piece, folder);
            return write_manifest(folder);
        }
        mobilevit_run(${arguments}, arena);
        for (int i = 1; raw && i < TENSORS; i++)
            fwrite(tensors[i].data, 1, tensors[i].size, stdout);
        for (int i = 0; !raw && i < MOBILEVIT_BATCH; i++)
            print_answer(i);
        if (fflush(stdout) || ferror(stdout))
            return complain("stdout", "room for the answer");
    }
    if (count > 0 || inputs == 0) {
        fprintf(stderr, "stdin: %lu bytes, expected %lu for each input\n", (unsigned long)count,
                (unsigned long)sizeof ${given});
        return 1;
    }
    return 0;
}
