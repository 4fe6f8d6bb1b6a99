/* One Python object in a frame: numbers, texts and bytes as they are, everything else as mpi4py pickles it.
 *
 * Where the program has given mpi4py another pickler, that gets everything.
 */
#include <string.h>

#include "objects.h"

#define MOST_SCALARS 16

enum kind { REAL, WHOLE, LOGICAL, COMPLEX_PAIR };

typedef struct scalar { /* a type of NumPy's numbers */
    PyObject *type;
    int kind;
} scalar;

static struct {
    PyObject *pickler, *dumps, *loads; /* mpi4py's, and its methods */
    PyObject *usual_dumps, *usual_loads;
    size_t dumps_at, loads_at; /* where the pickler keeps the functions that it uses; 0: not known */
    scalar scalars[MOST_SCALARS];
    uint8_t nscalars;
} known;

static PyObject *slot_of(size_t at) {
    PyObject *found;
    memcpy(&found, (const char *)known.pickler + at, sizeof found);
    return found;
}

static bool pickles_as_usual(void) {
    return known.dumps_at && slot_of(known.dumps_at) == known.usual_dumps &&
           slot_of(known.loads_at) == known.usual_loads;
}

/* --- writing -------------------------------------------------------------------------------------------------- */
static bool put(frame *f, enum tag tag, const void *data, size_t bytes) {
    f->header = (uint64_t)bytes | (uint64_t)tag << 32;
    memcpy(f->data, data, bytes);
    return true;
}

static bool put_integer(frame *f, int tag, PyObject *number) {
    int overflow = 0;
    long long value = PyLong_AsLongLongAndOverflow(number, &overflow);
    return overflow == 0 && put(f, (enum tag)tag, &value, sizeof value);
}

static bool put_complex(frame *f, int tag, PyObject *number) {
    double pair[2] = {PyComplex_RealAsDouble(number), PyComplex_ImagAsDouble(number)};
    return put(f, (enum tag)tag, pair, sizeof pair);
}

static bool put_double(frame *f, int tag, PyObject *number) {
    double value = PyFloat_AsDouble(number);
    return !(value == -1 && PyErr_Occurred()) && put(f, (enum tag)tag, &value, sizeof value);
}

static bool put_text(frame *f, PyObject *text) {
    Py_ssize_t n;
    const char *data = PyUnicode_AsUTF8AndSize(text, &n);
    return data && n <= FRAME_ROOM && put(f, TEXT, data, (size_t)n);
}

static bool put_bytes(frame *f, PyObject *bytes) {
    Py_ssize_t n = PyBytes_Size(bytes);
    return n <= FRAME_ROOM && put(f, BYTES, PyBytes_AsString(bytes), (size_t)n);
}

static bool put_scalar(frame *f, const scalar *s, int tag, PyObject *number) {
    if (s->kind == REAL) return put_double(f, tag, number);
    if (s->kind == COMPLEX_PAIR) return put_complex(f, tag, number);
    PyObject *whole = s->kind == WHOLE ? PyNumber_Index(number) : PyLong_FromLong(PyObject_IsTrue(number));
    bool done = whole && put_integer(f, tag, whole);
    Py_XDECREF(whole);
    return done;
}

/* Write a value of a type that needs no pickling; false, maybe with an error set, if it is none or does not fit. */
static bool put_plain(frame *f, PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    if (type == &PyFloat_Type) return put_double(f, FLOAT, object);
    if (type == &PyLong_Type) return put_integer(f, INTEGER, object);
    if (object == Py_None) return put(f, NONE, "", 0);
    if (type == &PyBool_Type) return put(f, object == Py_True ? TRUE_ : FALSE_, "", 0);
    if (type == &PyUnicode_Type) return put_text(f, object);
    if (type == &PyBytes_Type) return put_bytes(f, object);
    if (type == &PyComplex_Type) return put_complex(f, COMPLEX, object);
    for (int i = 0; i < known.nscalars; i++)
        if ((PyObject *)type == known.scalars[i].type) return put_scalar(f, &known.scalars[i], SCALAR + i, object);
    return false;
}

int value_write(frame *f, PyObject *object, PyObject **large) {
    *large = NULL;
    if (pickles_as_usual()) {
        if (put_plain(f, object)) return 0;
        PyErr_Clear();
    }
    PyObject *pickled = PyObject_CallFunctionObjArgs(known.dumps, object, NULL);
    char *data = pickled ? PyBytes_AsString(pickled) : NULL;
    if (data == NULL) {
        Py_XDECREF(pickled);
        return -1;
    }
    uint64_t n = (uint64_t)PyBytes_Size(pickled);
    if (n <= FRAME_ROOM) {
        put(f, PICKLED, data, n);
        Py_DECREF(pickled);
    } else {
        put(f, LARGE, &n, sizeof n);
        *large = pickled;
    }
    return 0;
}

/* --- reading -------------------------------------------------------------------------------------------------- */
PyObject *value_unpickle(PyObject *bytes) {
    if (bytes == NULL) return NULL;
    if (pickles_as_usual()) return PyObject_CallFunctionObjArgs(known.usual_loads, bytes, NULL);
    PyObject *view = PyMemoryView_FromObject(bytes); /* picklers may want more than bytes have */
    PyObject *out = view ? PyObject_CallFunctionObjArgs(known.loads, view, NULL) : NULL;
    Py_XDECREF(view);
    return out;
}

uint64_t value_bytes(const frame *f) {
    uint64_t n;
    memcpy(&n, f->data, sizeof n);
    return n;
}

static double double_at(const frame *f, int i) {
    double value;
    memcpy(&value, f->data + 8 * i, sizeof value);
    return value;
}

static PyObject *integer(const frame *f) {
    long long value;
    memcpy(&value, f->data, sizeof value);
    return PyLong_FromLongLong(value);
}

static PyObject *read_scalar(const frame *f) {
    const scalar *s = &known.scalars[tag_of(f) - SCALAR];
    PyObject *number = s->kind == REAL           ? PyFloat_FromDouble(double_at(f, 0))
                       : s->kind == COMPLEX_PAIR ? PyComplex_FromDoubles(double_at(f, 0), double_at(f, 1))
                                                 : integer(f);
    PyObject *out = number ? PyObject_CallFunctionObjArgs(s->type, number, NULL) : NULL;
    Py_XDECREF(number);
    return out;
}

static PyObject *read_pickled(const frame *f) {
    if (bytes_of(f) == 0) Py_RETURN_NONE; /* as mpi4py */
    PyObject *bytes = PyBytes_FromStringAndSize(f->data, (Py_ssize_t)bytes_of(f));
    PyObject *out = value_unpickle(bytes);
    Py_XDECREF(bytes);
    return out;
}

PyObject *value_read(const frame *f) {
    Py_ssize_t n = (Py_ssize_t)bytes_of(f);
    switch (tag_of(f)) {
    case PICKLED: return read_pickled(f);
    case NONE: Py_RETURN_NONE;
    case TRUE_: Py_RETURN_TRUE;
    case FALSE_: Py_RETURN_FALSE;
    case FLOAT: return PyFloat_FromDouble(double_at(f, 0));
    case INTEGER: return integer(f);
    case COMPLEX: return PyComplex_FromDoubles(double_at(f, 0), double_at(f, 1));
    case TEXT: return PyUnicode_FromStringAndSize(f->data, n);
    case BYTES: return PyBytes_FromStringAndSize(f->data, n);
    default: return read_scalar(f);
    }
}

/* --- facts ---------------------------------------------------------------------------------------------------- */
PyObject *values_take(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *scalars;
    if (!PyArg_ParseTuple(args, "OOOOOnnO!:know_objects", &known.pickler, &known.dumps, &known.loads,
                          &known.usual_dumps, &known.usual_loads, &known.dumps_at, &known.loads_at, &PyTuple_Type,
                          &scalars))
        return NULL;
    PyObject *held[] = {known.pickler, known.dumps, known.loads, known.usual_dumps, known.usual_loads, scalars};
    for (int i = 0; i < 6; i++) Py_INCREF(held[i]); /* for as long as the process lives */
    if (PyTuple_Size(scalars) > MOST_SCALARS) return PyErr_Format(PyExc_ValueError, "at most %d types", MOST_SCALARS);
    known.nscalars = 0;
    for (Py_ssize_t i = 0; i < PyTuple_Size(scalars); i++) {
        scalar *s = &known.scalars[i];
        if (!PyArg_ParseTuple(PyTuple_GetItem(scalars, i), "Oi", &s->type, &s->kind)) return NULL;
        known.nscalars++;
    }
    Py_RETURN_NONE;
}
