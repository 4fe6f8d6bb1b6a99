/* Frames in the lines and slots of a node: vectors whose length only their sender knows. */
#include <string.h>

#include "shared_node.h"

_Static_assert(TC_FRAME_HEADER == sizeof(uint64_t), "a header is one word");

static uint64_t bounded(uint64_t header, uint64_t room) {
    uint64_t bytes = TC_FRAME_HEADER + (header & UINT32_MAX);
    return bytes < room ? bytes : room;
}

uint64_t frame_bytes(const void *frame, uint64_t room) {
    uint64_t header;
    memcpy(&header, frame, sizeof header);
    return bounded(header, room);
}

void frame_post(const char *frame, uint64_t room, line *mine, char *slot) {
    uint64_t bytes = frame_bytes(frame, room);
    bool in_line = bytes <= LINE_BYTES;
    memcpy(mine->data, frame, in_line ? LINE_BYTES : TC_FRAME_HEADER); /* a frame has room for a line */
    if (!in_line) memcpy(slot, frame, bytes);
}

void frame_take(const line *theirs, const char *slot, uint64_t room, char *to) {
    uint64_t bytes = frame_bytes(theirs->data, room);
    if (bytes <= LINE_BYTES) memcpy(to, theirs->data, LINE_BYTES);
    else memcpy(to, slot, bytes);
}
