/* A crowd of WebSocket clients in one process: crowd HOST PORT REQUEST-FILE [GREETING [ORGS]]

   Opens sockets with the handshake in REQUEST-FILE, where ### becomes a client's number modulo ORGS, as 007, and sends
   each GREETING, if it isn't empty, as its first message. An event is
   recognised by one ^ in its text, followed by ":<nanoseconds of CLOCK_MONOTONIC when it was published>.

   Commands come on standard input, one a line; each is answered by a line of JSON, with times in milliseconds:

   connect COUNT WINDOW MARKS BUFFER   open so many sockets, WINDOW of them at once, and wait until each has had MARKS
                                       events; BUFFER is their receive buffer in bytes, 0 for the system's
   expect MARKS SECONDS                wait until all that are awake have had so many events more, at most so long
   watch SECONDS                       read for so long
   sleep COUNT                         read nothing more on the sockets opened last

   Built with `cc -O2`. Linux, for epoll. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CLIENTS = 65536, MAX_LATENCIES = 1 << 22, BUFFER = 1 << 20, TEXT = 0x1, CLOSE = 0x8, PING = 0x9, PONG = 0xA };

struct client {
    int fd;
    int is_open;    /* the handshake has been answered */
    int is_gone;
    int is_asleep;
    int is_pending; /* `connect` waits for it */
    long marks;
    double begun;
    char *rest;     /* the beginning of what isn't whole yet */
    size_t held;
};

static struct client *clients;
static int count, epoll, gone, orgs = 1;
static struct sockaddr_in address;
static char request[16384], greeting[1024], *buffer, *place; /* `place`: where ### is */
static size_t request_size;
static long deliveries, wanted; /* `wanted`: marks after which a client that connects is done */
static int pending, refused;
static float *latencies, *connecting;
static long latency_count, connecting_count;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int compare(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static double percentile(float *values, long size, double part) {
    return size ? values[(long)((size - 1) * part)] : 0;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void send_frame(struct client *client, int opcode, const char *payload, size_t size) {
    unsigned char frame[6 + 125] = {0x80 | opcode, 0x80 | size, 0, 0, 0, 0};
    memcpy(frame + 6, payload, size); /* masked with zeros */
    if (write(client->fd, frame, 6 + size) < 0 && errno != EAGAIN) client->is_gone = 1;
}

static void is_done(struct client *client) {
    if (!client->is_pending) return;
    client->is_pending = 0;
    pending--;
    if (client->is_gone) refused++;
    else connecting[connecting_count++] = (now() - client->begun) * 1e3;
}

static void lose(struct client *client) {
    if (client->is_gone == 2) return;
    client->is_gone = 2;
    gone++;
    epoll_ctl(epoll, EPOLL_CTL_DEL, client->fd, 0);
    close(client->fd);
    is_done(client);
}

static void take_text(struct client *client, char *text, size_t size, double at) {
    char *end = text + size, *mark = text;
    if (size == 1 && *text == '2') { /* Engine.IO's ping */
        send_frame(client, TEXT, "3", 1);
        return;
    }
    while ((mark = memchr(mark, '^', end - mark))) {
        mark++;
        client->marks++;
        deliveries++;
        if (end - mark > 3 && latency_count < MAX_LATENCIES) {
            uint64_t published = strtoull(mark + 2, 0, 10); /* ends at the first that is no digit */
            if (published) latencies[latency_count++] = at * 1e3 - published / 1e6;
        }
    }
    if (client->is_pending && client->marks >= wanted) is_done(client);
}

/* Take all frames that are whole; return how many bytes they were. */
static size_t take_frames(struct client *client, char *data, size_t size, double at) {
    size_t taken = 0;
    while (size - taken >= 2) {
        unsigned char *frame = (unsigned char *)data + taken;
        size_t head = 2, length = frame[1] & 0x7f;
        if (length == 126) {
            head = 4;
            if (size - taken < head) break;
            length = frame[2] << 8 | frame[3];
        } else if (length == 127) {
            head = 10;
            if (size - taken < head) break;
            length = 0;
            for (int i = 2; i < 10; i++) length = length << 8 | frame[i];
        }
        if (size - taken < head + length) break;
        int opcode = frame[0] & 0xf;
        if (opcode == TEXT) take_text(client, (char *)frame + head, length, at);
        else if (opcode == PING) send_frame(client, PONG, (char *)frame + head, length);
        else if (opcode == CLOSE) client->is_gone = 1;
        taken += head + length;
    }
    return taken;
}

static size_t take_handshake(struct client *client, char *data, size_t size) {
    char *end = memmem(data, size, "\r\n\r\n", 4);
    if (!end) return 0;
    if (!memmem(data, size < 32 ? size : 32, " 101", 4)) {
        client->is_gone = 1;
        return size;
    }
    client->is_open = 1;
    if (*greeting) send_frame(client, TEXT, greeting, strlen(greeting));
    if (!wanted) is_done(client);
    return end + 4 - data;
}

static void readable(struct client *client) {
    size_t held = client->held;
    if (held) memcpy(buffer, client->rest, held);
    ssize_t got = read(client->fd, buffer + held, BUFFER - held);
    if (got <= 0) {
        if (got < 0 && errno == EAGAIN) return;
        lose(client);
        return;
    }
    size_t size = held + got, taken = 0;
    if (!client->is_open) taken = take_handshake(client, buffer, size);
    if (client->is_open) taken += take_frames(client, buffer + taken, size - taken, now());
    if (client->is_gone) {
        lose(client);
        return;
    }
    client->held = size - taken;
    if (client->held) {
        client->rest = realloc(client->rest, client->held);
        memcpy(client->rest, buffer + taken, client->held);
    }
}

/* Read for at most so long; return 0 when nothing came. */
static int pump(double seconds) {
    struct epoll_event events[1024];
    int ready = epoll_wait(epoll, events, 1024, seconds * 1e3 + 1);
    for (int i = 0; i < ready; i++) readable(events[i].data.ptr);
    return ready > 0;
}

static void open_one(int size_of_buffer) {
    struct client *client = &clients[count++];
    int one = 1;
    client->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (client->fd < 0) fail("socket");
    if (size_of_buffer) setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &size_of_buffer, sizeof size_of_buffer);
    client->begun = now();
    client->is_pending = 1;
    pending++;
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (place) {
        char digits[16];
        snprintf(digits, sizeof digits, "%03d", (count - 1) % orgs % 1000);
        memcpy(place, digits, 3);
    }
    if (write(client->fd, request, request_size) < 0) fail("write");
    fcntl(client->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    epoll_ctl(epoll, EPOLL_CTL_ADD, client->fd, &event);
}

static void connect_all(int number, int window, long marks, int size_of_buffer) {
    double begun = now(), deadline = begun + 300;
    int target = count + number;
    wanted = marks;
    refused = connecting_count = 0;
    while ((count < target || pending) && now() < deadline) {
        while (count < target && pending < window) open_one(size_of_buffer);
        pump(0.1);
    }
    double seconds = now() - begun;
    qsort(connecting, connecting_count, sizeof *connecting, compare);
    printf("{\"connected\": %ld, \"refused\": %d, \"seconds\": %.4f, \"p50\": %.2f, \"p99\": %.2f}\n", connecting_count,
           refused + pending, seconds, percentile(connecting, connecting_count, 0.5),
           percentile(connecting, connecting_count, 0.99));
    deliveries = latency_count = 0;
}

static void report(double seconds, long need, int gone_before) {
    qsort(latencies, latency_count, sizeof *latencies, compare);
    printf("{\"deliveries\": %ld, \"lost\": %ld, \"gone\": %d, \"seconds\": %.4f, \"p50\": %.3f, \"p99\": %.3f, "
           "\"last\": %.3f}\n",
           deliveries, need > deliveries ? need - deliveries : 0, gone - gone_before, seconds,
           percentile(latencies, latency_count, 0.5), percentile(latencies, latency_count, 0.99),
           percentile(latencies, latency_count, 1));
    deliveries = latency_count = 0;
}

static void expect(long marks, double seconds) {
    double begun = now();
    int gone_before = gone, awake = 0;
    for (int i = 0; i < count; i++) awake += !clients[i].is_asleep && !clients[i].is_gone;
    long need = marks * awake;
    while (deliveries < need && now() - begun < seconds) pump(seconds - (now() - begun));
    report(now() - begun, need, gone_before);
}

static void watch(double seconds) {
    double begun = now();
    int gone_before = gone;
    while (now() - begun < seconds) pump(seconds - (now() - begun));
    report(now() - begun, 0, gone_before);
}

static void put_to_sleep(int number) {
    for (int i = count - number; i < count; i++) {
        clients[i].is_asleep = 1;
        epoll_ctl(epoll, EPOLL_CTL_DEL, clients[i].fd, 0);
    }
    printf("{\"asleep\": %d}\n", number);
}

int main(int arguments, char **argument) {
    if (arguments < 4) {
        fprintf(stderr, "usage: crowd HOST PORT REQUEST-FILE [GREETING [ORGS]]\n");
        return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    address.sin_family = AF_INET;
    address.sin_port = htons(atoi(argument[2]));
    inet_pton(AF_INET, argument[1], &address.sin_addr);
    FILE *file = fopen(argument[3], "r");
    if (!file) fail(argument[3]);
    request_size = fread(request, 1, sizeof request, file);
    fclose(file);
    if (arguments > 4) snprintf(greeting, sizeof greeting, "%.125s", argument[4]);
    if (arguments > 5) orgs = atoi(argument[5]);
    place = memmem(request, request_size, "###", 3);
    clients = calloc(MAX_CLIENTS, sizeof *clients);
    latencies = malloc(MAX_LATENCIES * sizeof *latencies);
    connecting = malloc(MAX_CLIENTS * sizeof *connecting);
    buffer = malloc(BUFFER + 1);
    epoll = epoll_create1(0);
    char line[256];
    while (fgets(line, sizeof line, stdin)) {
        int number, window, size_of_buffer;
        long marks;
        double seconds;
        if (sscanf(line, "connect %d %d %ld %d", &number, &window, &marks, &size_of_buffer) == 4)
            connect_all(number, window, marks, size_of_buffer);
        else if (sscanf(line, "expect %ld %lf", &marks, &seconds) == 2) expect(marks, seconds);
        else if (sscanf(line, "watch %lf", &seconds) == 1) watch(seconds);
        else if (sscanf(line, "sleep %d", &number) == 1) put_to_sleep(number);
        else printf("{\"error\": \"no such command\"}\n");
        fflush(stdout);
    }
    return 0;
}
