/* Non-blocking calls: those of a collective that is left to the MPI library go to mpi4py's own method at once. */
#include <string.h>

#include "memo.h"

static const char *const names[STARTED] = {"Iallgather", "Ialltoall", "Iallreduce", "Ireduce_scatter",
                                           "Ireduce_scatter_block", "Ibcast", "Ireduce", "Igather",
                                           "Iscatter", "Ibarrier", "Iscan", "Iexscan"};
static PyObject *mpi4pys[STARTED], *python_names[STARTED], *algorithm;

int starting_open(void) {
    PyObject *type = of_mpi4py("Intracomm");
    algorithm = PyUnicode_InternFromString("algorithm");
    for (int k = 0; type && k < STARTED; k++) {
        mpi4pys[k] = PyObject_GetAttrString(type, names[k]);
        python_names[k] = PyUnicode_FromFormat("_%s", names[k]);
        if (mpi4pys[k] == NULL || python_names[k] == NULL) Py_CLEAR(type);
    }
    Py_XDECREF(type);
    return type && algorithm ? 0 : -1;
}

static bool names_algorithm(PyObject *kwnames) {
    return kwnames && PySequence_Contains(kwnames, algorithm) != 0;
}

/* Return the communicator and the arguments by position. */
static PyObject *with_self(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    PyObject *out = PyTuple_New(nargs + 1);
    if (out == NULL) return NULL;
    Py_INCREF(self);
    PyTuple_SetItem(out, 0, self);
    for (Py_ssize_t i = 0; i < nargs; i++) {
        Py_INCREF(args[i]);
        PyTuple_SetItem(out, i + 1, args[i]);
    }
    return out;
}

PyObject *starting_call(PyObject *self, const memo *m, enum started call, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames) {
    bool left = m && m->left & 1u << call && handle_at(self, known_facts.comm_at) == m->comm;
    if (!left || names_algorithm(kwnames)) return python_path(self, python_names[call], args, nargs, kwnames);
    PyObject *positions = with_self(self, args, nargs), *keywords = NULL, *out = NULL;
    if (positions && (kwnames == NULL || (keywords = keywords_of(args + nargs, kwnames))))
        out = PyObject_Call(mpi4pys[call], positions, keywords);
    Py_XDECREF(keywords);
    Py_XDECREF(positions);
    return out;
}

PyObject *starting_leave(memo *m, PyObject *name) {
    PyObject *method = PyUnicode_FromFormat("_I%U", name);
    if (method == NULL) return NULL;
    for (int k = 0; m && k < STARTED; k++)
        if (PyUnicode_Compare(method, python_names[k]) == 0) m->left |= 1u << k;
    Py_DECREF(method);
    Py_RETURN_NONE;
}
