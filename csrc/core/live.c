/* Does a peer on another node live? A connection per peer says so: the kernel closes it when the process ends, and
 * keep-alive probes find a node that fell silent, which takes them 4 seconds. Nothing is ever sent on it. One lost probe
 * means nothing: a network that drops packets is not dead. Nor does a connection that never came about: a firewall may
 * refuse or drop it. So it is begun before it is needed, while the peer is known to live: when it is connected, in a
 * small job, else when the first block is exchanged with it, since a large job has too many pairs that never speak.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "internal.h"

#define DIAL_SECONDS 1.0 /* between attempts */

static bool enabled(const tc_context *context) {
    return context->listener >= 0;
}

/* How many connections the kernel keeps for a listener that accepts none. */
static uint32_t room(void) {
    unsigned long most = 128;
    FILE *file = fopen("/proc/sys/net/core/somaxconn", "re");
    if (!file) return 128;
    if (fscanf(file, "%lu", &most) != 1) most = 128;
    fclose(file);
    return most < UINT32_MAX ? (uint32_t)most : UINT32_MAX;
}

/* Where the kernel may have no room for a connection of every peer it would drop some that look complete to the other
 * side: there is no listener then. */
int live_open(tc_context *context) {
    if (context->options.size > room()) return TC_OK;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_ANY)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return TC_ERR_NO_MEMORY;
    if (bind(fd, (struct sockaddr *)&any, sizeof any) || listen(fd, (int)context->options.size)) {
        close(fd);
        return TC_ERR_TRANSPORT;
    }
    context->listener = fd;
    return TC_OK;
}

int live_address(tc_context *context, wire_address *address) {
    struct sockaddr_in bound, *out = (struct sockaddr_in *)(void *)address->live;
    socklen_t length = sizeof bound;
    if (!enabled(context) || address->live_bytes != sizeof bound) { /* the network gave no IP address */
        address->live_bytes = 0;
        return TC_OK;
    }
    if (getsockname(context->listener, (struct sockaddr *)&bound, &length)) return TC_ERR_TRANSPORT;
    struct sockaddr_in mine;
    memcpy(&mine, out, sizeof mine);
    mine.sin_port = bound.sin_port;
    memcpy(out, &mine, sizeof mine);
    return TC_OK;
}

static void probe_often(int fd) {
    int on = 1, idle = 1, every = 1, times = 3, dials = 2;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof every);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof times);
    setsockopt(fd, IPPROTO_TCP, TCP_SYNCNT, &dials, sizeof dials);
}

static int dial(const wire_address *address) {
    struct sockaddr_in to;
    memcpy(&to, address->live, sizeof to);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    probe_often(fd);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0 || errno == EINPROGRESS) return fd;
    close(fd);
    return -1;
}

/* Begins a connection, unless there is one; it is not waited for. Like live_check, called inside enter and leave. */
void live_dial(tc_context *context, uint32_t rank) {
    peer *p = &context->peers[rank];
    double time = now();
    if (rank != context->options.rank && p->address.live_bytes && p->live < 0 && time >= p->dial_after) {
        p->dial_after = time + DIAL_SECONDS;
        p->live = dial(&p->address);
    }
}

/* The connection failed or ended. Had it been there? Then the peer is gone; else somebody on the way may forbid it. */
static bool was_there(peer *p) {
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(p->live, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error == 0 || error == ECONNRESET) p->met = true; /* what was never there is refused, unreachable or times out */
    if (p->met) return true;
    close(p->live);
    p->live = -1;
    return false;
}

/* The listening side accepts nothing: the kernel completes the connection, and ends it with the process. */
bool live_check(tc_context *context, uint32_t rank) {
    peer *p = &context->peers[rank];
    bool lives = true;
    if (p->dial_after > 0) live_dial(context, rank); /* again; not one that was never needed */
    struct pollfd ready = {.fd = p->live, .events = POLLIN | POLLOUT | POLLRDHUP};
    if (p->live >= 0 && poll(&ready, 1, 0) > 0) {
        if (ready.revents & (POLLHUP | POLLERR | POLLRDHUP)) lives = !was_there(p);
        else p->met = true;
    }
    return lives;
}

void live_close(tc_context *context) {
    for (uint32_t i = 0; context->peers && i < context->options.size; i++)
        if (context->peers[i].live >= 0) close(context->peers[i].live), context->peers[i].live = -1;
    if (enabled(context)) close(context->listener);
    context->listener = -1;
}

int tc_context_forked(tc_context *context) {
    if (!context) return TC_ERR_ARGUMENT;
    live_close(context); /* the kernel ends a connection with the last process that holds it */
    return TC_OK;
}
