/* Counts what a process holds that no sanitizer watches: descriptors and memory maps of topocomm. */
#ifndef COUNTING_H
#define COUNTING_H
#include <dirent.h>
#include <stdio.h>
#include <string.h>

static int count_descriptors(void) {
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;
    while (readdir(dir)) n++;
    closedir(dir);
    return n;
}

static int count_maps(void) {
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[4096];
    int n = 0;
    while (fgets(line, sizeof line, maps))
        if (strstr(line, "topocomm")) n++;
    fclose(maps);
    return n;
}

#endif
