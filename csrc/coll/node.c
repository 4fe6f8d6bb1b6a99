/* The memory that the ranks of a node share: made, opened, broken.
 *
 * It is a memory file without a name, opened through /proc: nothing is left behind when a process is killed.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared_node.h"

#define MAGIC 0x746f706f6e6f6465ull

_Static_assert(sizeof(node_head) <= HEAD_BYTES, "the head fits");
_Static_assert(sizeof(line) == 64 && sizeof(station) == 640, "as documented");

static uint64_t slots_at(uint32_t size) {
    return (HEAD_BYTES + (uint64_t)size * sizeof(station) + 4095) & ~4095ull;
}

uint64_t tc_node_bytes(uint32_t size) {
    return slots_at(size) + (uint64_t)size * SLOTS * TC_NODE_LARGEST;
}

static int map(int descriptor, uint64_t bytes, node_head **head) {
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (base == MAP_FAILED) return TC_ERR_NO_MEMORY;
    *head = base;
    return TC_OK;
}

static int make(uint64_t bytes, int *descriptor, node_head **head) {
    int fd = memfd_create("topocomm-node", MFD_CLOEXEC);
    if (fd < 0) return TC_ERR_NO_MEMORY;
    int status = ftruncate(fd, (off_t)bytes) ? TC_ERR_NO_MEMORY : map(fd, bytes, head);
    if (status == TC_OK) *descriptor = fd;
    else close(fd);
    return status;
}

static int open_by(const tc_node_address *address, node_head **head) {
    char path[64];
    struct stat info;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)address->pid, (int)address->descriptor);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return TC_ERR_UNREACHABLE;
    int status = TC_ERR_UNREACHABLE;
    if (fstat(fd, &info) == 0 && (uint64_t)info.st_size == address->bytes) status = map(fd, address->bytes, head);
    close(fd);
    if (status == TC_OK && ((*head)->magic != MAGIC || (*head)->nonce != address->nonce)) {
        munmap(*head, address->bytes);
        status = TC_ERR_UNREACHABLE;
    }
    return status;
}

static tc_node *new_node(uint32_t rank, uint32_t size, const tc_node_mpi *mpi) {
    tc_node *node = calloc(1, sizeof *node);
    char *scratch = malloc(TC_NODE_LARGEST);
    if (node == NULL || scratch == NULL) {
        free(node);
        free(scratch);
        return NULL;
    }
    node->scratch = scratch;
    node->holders = 1;
    node->rank = rank;
    node->size = size;
    node->descriptor = -1;
    if (mpi) node->mpi = *mpi;
    return node;
}

static void sit_down(tc_node *node, node_head *head) {
    node->head = head;
    node->bytes = tc_node_bytes(node->size);
    node->stations = (station *)((char *)head + HEAD_BYTES);
    node->slots = (char *)head + slots_at(node->size);
    station *mine = &node->stations[node->rank];
    atomic_store(&mine->start, process_start(getpid()));
    atomic_store(&mine->pid, getpid());
}

static bool fits(uint32_t rank, uint32_t size, tc_node **node) {
    return rank < size && size <= TC_NODE_RANKS && node;
}

int tc_node_create(uint32_t rank, uint32_t size, const tc_node_mpi *mpi, tc_node **node, tc_node_address *address) {
    if (!fits(rank, size, node) || address == NULL) return TC_ERR_ARGUMENT;
    uint64_t bytes = tc_node_bytes(size);
    node_head *head = NULL;
    tc_node *n = new_node(rank, size, mpi);
    int status = n ? make(bytes, &n->descriptor, &head) : TC_ERR_NO_MEMORY;
    if (status == TC_OK && getrandom(&head->nonce, sizeof head->nonce, 0) != sizeof head->nonce) status = TC_ERR_NO_MEMORY;
    if (status != TC_OK) {
        if (head) munmap(head, bytes);
        tc_node_free(n);
        return status;
    }
    head->magic = MAGIC;
    sit_down(n, head);
    *address = (tc_node_address){.bytes = bytes, .nonce = head->nonce, .pointer = (uintptr_t)head, .pid = getpid(),
                                 .descriptor = n->descriptor, .size = size};
    *node = n;
    return TC_OK;
}

int tc_node_attach(uint32_t rank, uint32_t size, const tc_node_mpi *mpi, const tc_node_address *address,
                   tc_node **node) {
    if (!fits(rank, size, node) || address == NULL || address->size != size) return TC_ERR_ARGUMENT;
    if (address->bytes != tc_node_bytes(size)) return TC_ERR_ARGUMENT;
    node_head *head = NULL;
    bool here = false;
    int status = open_by(address, &head);
    if (status != TC_OK) return status;
    if (address->pid == getpid()) { /* one mapping a process, so that thread sanitizers see the true addresses */
        munmap(head, address->bytes);
        head = (node_head *)(uintptr_t)address->pointer;
        here = true;
    }
    tc_node *n = new_node(rank, size, mpi);
    if (n == NULL) {
        if (!here) munmap(head, address->bytes);
        return TC_ERR_NO_MEMORY;
    }
    n->borrowed = here;
    sit_down(n, head);
    *node = n;
    return TC_OK;
}

static void close_door(tc_node *node) {
    if (node->descriptor >= 0) close(node->descriptor);
    node->descriptor = -1;
}

int tc_node_seal(tc_node *node, uint32_t cores) {
    if (node == NULL) return TC_ERR_ARGUMENT;
    close_door(node);
    node->most_spins = node->size > cores ? 0 : SPINS;
    node->spins = node->most_spins;
    return TC_OK;
}

int tc_node_free(tc_node *node) {
    if (node == NULL) return TC_ERR_ARGUMENT;
    close_door(node);
    if (node->head && !node->borrowed) munmap(node->head, node->bytes);
    node->head = NULL;
    node_release(node);
    return TC_OK;
}

void node_release(tc_node *node) {
    if (atomic_fetch_sub(&node->holders, 1) != 1) return;
    free(node->scratch);
    free(node->block);
    free(node);
}

int node_break(tc_node *node, int status, const tc_node_fault *fault) {
    node_head *head = node->head;
    uint32_t sound = SOUND;
    if (atomic_compare_exchange_strong(&head->state, &sound, BREAKING)) {
        head->status = status;
        head->fault = *fault;
        atomic_store_explicit(&head->state, BROKEN, memory_order_release);
    }
    while (node_sound(node) == TC_OK) continue; /* another rank is about to say why */
    return node_sound(node);
}

int node_sound(const tc_node *node) {
    if (__builtin_expect(atomic_load_explicit(&node->head->state, memory_order_acquire) != BROKEN, 1)) return TC_OK;
    return node->head->status;
}

int tc_node_failure(const tc_node *node, tc_node_fault *fault) {
    if (node == NULL || fault == NULL || node->head == NULL || node_sound(node) == TC_OK) return TC_ERR_ARGUMENT;
    *fault = node->head->fault;
    return TC_OK;
}
