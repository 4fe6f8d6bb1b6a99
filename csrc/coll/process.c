/* Processes of this host, as /proc shows them. */
#include "process.h"

#include <stdio.h>
#include <string.h>

/* Return the state's letter and the time of the start; 0: there is no such process, or it has ended. */
static char look(int32_t pid, uint64_t *start) {
    char path[64], text[512], state = 0;
    unsigned long long began = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) return 0;
    size_t n = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[n] = 0;
    const char *at = strrchr(text, ')');
    if (at == NULL || sscanf(at + 1, " %c", &state) != 1 || state == 'Z' || state == 'X') return 0;
    for (int field = 2; field < 22 && at; field++) at = strchr(at + 1, ' ');
    if (at == NULL || sscanf(at, "%llu", &began) != 1) return 0;
    *start = began;
    return state;
}

uint64_t process_start(int32_t pid) {
    uint64_t start = 0;
    return look(pid, &start) ? start : 0;
}

enum process_state process_state(int32_t pid, uint64_t start) {
    uint64_t began = 0;
    char state = look(pid, &began);
    if (state == 0 || began != start) return GONE;
    return state == 'T' || state == 't' ? STOPPED : RUNNING;
}
