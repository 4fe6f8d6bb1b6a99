/* Does a peer on another node live? A connection per peer says so: the kernel closes it when the process ends, and
 * keep-alive probes find a node that fell silent, which takes them 4 seconds, or 7 if there was no connection yet.
 * Nothing is ever sent on it. One lost probe means nothing: a network that drops packets is not dead.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "internal.h"

static bool enabled(const tc_context *context) {
    return context->listener >= 0;
}

int live_open(tc_context *context) {
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
    if (!enabled(context) || address->live_bytes != sizeof bound) return TC_OK; /* the network gave no IP address */
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

/* The listening side accepts nothing: the kernel completes the connection, and ends it with the process. */
bool live_check(tc_context *context, uint32_t rank) {
    peer *p = &context->peers[rank];
    if (rank == context->options.rank || p->address.live_bytes == 0) return true;
    if (p->live < 0) {
        p->live = dial(&p->address);
        return p->live >= 0 || (errno != ECONNREFUSED && errno != EHOSTUNREACH && errno != ENETUNREACH);
    }
    struct pollfd ready = {.fd = p->live, .events = POLLIN | POLLRDHUP};
    return poll(&ready, 1, 0) <= 0 || !(ready.revents & (POLLHUP | POLLERR | POLLRDHUP));
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
