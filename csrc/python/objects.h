/* Python objects in frames: how one is written into a frame and read from it, and which calls carry them. */
#ifndef TOPOCOMM_OBJECTS_H
#define TOPOCOMM_OBJECTS_H
#include "memo.h"

#define FRAME_BYTES 4096
#define FRAME_ROOM (FRAME_BYTES - 8)

/* From the lowest bit of a frame's header: bytes behind it 32, tag 8, number of the operation 8 (0: the program's own). */
enum tag { PICKLED, NONE, TRUE_, FALSE_, FLOAT, INTEGER, COMPLEX, TEXT, BYTES, LARGE, SCALAR };

typedef struct frame {
    uint64_t header;
    char data[FRAME_ROOM];
} frame;

enum object_call { OF_ALLREDUCE, OF_ALLGATHER, OF_BCAST, OF_GATHER, OF_REDUCE, OBJECT_CALLS };

typedef struct carrier { /* of the frames of a call with a root */
    program run;
    void *state;
    PyObject *keep; /* what the state belongs to; NULL: not made yet */
} carrier;

struct objects { /* of a communicator whose ranks share memory */
    int32_t size;
    carrier *carriers[OBJECT_CALLS]; /* by root */
    frame *received;                 /* one a rank; NULL: in use */
};

static inline enum tag tag_of(const frame *f) {
    return (enum tag)(f->header >> 32 & 0xff);
}

static inline uint64_t bytes_of(const frame *f) {
    return f->header & UINT32_MAX;
}

static inline uint32_t operation_of(const frame *f) {
    return f->header >> 40 & 0xff;
}

/* --- values.c ----------------------------------------------------------------------------------------------------- */
/* Write an object into a frame: 0, or -1 with an error set. What does not fit is left in `large`, its pickled bytes. */
int value_write(frame *f, PyObject *object, PyObject **large);
/* Read the object of a frame that is not LARGE. */
PyObject *value_read(const frame *f);
/* Return the bytes of a LARGE one. */
uint64_t value_bytes(const frame *f);
/* Unpickle bytes, or whatever else has the buffer protocol. */
PyObject *value_unpickle(PyObject *bytes);
/* Make `know_objects`, which takes what must be known of pickling. */
PyObject *values_take(PyObject *module, PyObject *args);

/* --- objects.c ---------------------------------------------------------------------------------------------------- */
void objects_free(struct objects *o);
int objects_visit(struct objects *o, visitproc visit, void *arg);
struct objects *objects_new(int32_t size);
/* Make a call through shared memory; NULL with no error set if it must go another way. */
PyObject *objects_call(PyObject *self, memo **at, enum object_call call, PyObject *const *args, Py_ssize_t nargs,
                       PyObject *kwnames);
#endif
