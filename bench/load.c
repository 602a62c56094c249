/*
 * The load for raw pipes and the back end behind every subject: one C program, so that neither is what a bench measures.
 *
 *   load backend                                serves two ports, prints {"bulk":PORT,"echo":PORT}; ends when stdin does
 *   load tls|tcp up PORT BYTES                  sends BYTES, waits until the back end has counted them
 *   load tls|tcp down PORT BYTES                asks for BYTES and counts them
 *   load tls|tcp echo PORT SIZE WARM COUNT      round trips one after the other, the first WARM not counted
 *   load tls|tcp connections PORT COUNT JOBS    connect, one byte echoed, close; JOBS processes share the work
 *   load tls|tcp hold PORT COUNT                keeps COUNT connections open, each with one byte echoed, until stdin ends
 *   load cpu PID...                             user and system seconds that these processes have used, all threads, to the nanosecond
 *
 * TLS is 1.3 with a client certificate: $CERTS/client.pem, client-key.pem, ca.pem. Answers are one line of JSON on stdout; anything
 * that does not go as it should is a line on stderr and status 1.
 *
 * The bulk port takes one request, u32 length (17), u8 'u' or 'd', u64 bytes, u64 message size, all big-endian: for 'u' it reads so
 * many bytes and answers u32 8, u64 bytes; for 'd' it sends so many, cut into messages u32 size, payload unless the size is 0.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { REQUEST = 21, ANSWER = 12, CHUNK = 262144, ECHO = 65536 };

static void die(const char *format, ...) {
  va_list list;
  va_start(list, format);
  vfprintf(stderr, format, list);
  va_end(list);
  fputc('\n', stderr);
  ERR_print_errors_fp(stderr);
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static struct sockaddr_in loopback(int port) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return a;
}

/* ---- the back end */

struct peer {
  int fd, bulk;
  unsigned char request[REQUEST];
  int got;              /* of the request, or of what the echo still has to write */
  int sent;             /* of the echo */
  uint64_t total, done; /* of the payload */
  uint64_t period;      /* how often the pattern of messages repeats */
  unsigned char *echo;
};

static unsigned char scratch[CHUNK];
static unsigned char *pattern;
static uint64_t pattern_size, pattern_period;

static int listen_any(int *port) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in a = loopback(0);
  socklen_t length = sizeof a;
  if (bind(fd, (void *)&a, sizeof a) || listen(fd, 4096) || getsockname(fd, (void *)&a, &length)) die("listen: %s", strerror(errno));
  *port = ntohs(a.sin_port);
  return fd;
}

/* Messages of one size, back to back; kept for the next that asks for the same. */
static uint64_t make_pattern(uint64_t size) {
  if (pattern && pattern_size == size) return pattern_period;
  uint64_t one = size ? size + 4 : 1, count = CHUNK / one;
  if (count == 0) count = 1;
  free(pattern);
  pattern = calloc(count, one);
  for (uint64_t i = 0; size && i < count; i++) {
    uint32_t prefix = htobe32(size);
    memcpy(pattern + i * one, &prefix, 4);
  }
  pattern_size = size;
  return pattern_period = count * one;
}

/* 0: wait for more; 1: wait for room; -1: done with it. */
static int serve_bulk(struct peer *p) {
  while (p->got < REQUEST) {
    int n = read(p->fd, p->request + p->got, REQUEST - p->got);
    if (n < 0) return errno == EAGAIN ? 0 : -1;
    if (n == 0) return -1;
    p->got += n;
    if (p->got < REQUEST) continue;
    uint64_t total, size;
    memcpy(&total, p->request + 5, 8);
    memcpy(&size, p->request + 13, 8);
    p->total = be64toh(total);
    if (p->request[4] == 'd') p->period = make_pattern(be64toh(size));
  }
  if (p->request[4] == 'd') {
    while (p->done < p->total) {
      uint64_t at = p->done % p->period, want = p->period - at;
      if (want > p->total - p->done) want = p->total - p->done;
      int n = write(p->fd, pattern + at, want);
      if (n < 0) return errno == EAGAIN ? 1 : -1;
      p->done += n;
    }
    int n = read(p->fd, scratch, sizeof scratch); /* the other end closes */
    return n > 0 || (n < 0 && errno == EAGAIN) ? 0 : -1;
  }
  for (;;) {
    int n = read(p->fd, scratch, sizeof scratch);
    if (n < 0) return errno == EAGAIN ? 0 : -1;
    if (n == 0) return -1;
    p->done += n;
    if (p->done < p->total) continue;
    unsigned char answer[ANSWER] = {0, 0, 0, 8};
    uint64_t done = htobe64(p->done);
    memcpy(answer + 4, &done, 8);
    if (write(p->fd, answer, ANSWER) != ANSWER) return -1;
  }
}

static int serve_echo(struct peer *p) {
  for (;;) {
    while (p->sent < p->got) {
      int n = write(p->fd, p->echo + p->sent, p->got - p->sent);
      if (n < 0) return errno == EAGAIN ? 1 : -1;
      p->sent += n;
    }
    p->got = p->sent = 0;
    int n = read(p->fd, p->echo ? p->echo : scratch, ECHO);
    if (n < 0) return errno == EAGAIN ? 0 : -1;
    if (n == 0) return -1;
    if (!p->echo) memcpy(p->echo = malloc(ECHO), scratch, n);
    p->got = n;
  }
}

static void backend(void) {
  int ports[2], listeners[2] = {listen_any(&ports[0]), listen_any(&ports[1])};
  int ep = epoll_create1(0);
  struct peer marks[3] = {{.fd = listeners[0]}, {.fd = listeners[1]}, {.fd = 0}};
  for (int i = 0; i < 3; i++) {
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = &marks[i]};
    if (epoll_ctl(ep, EPOLL_CTL_ADD, marks[i].fd, &e)) die("epoll: %s", strerror(errno));
  }
  printf("{\"bulk\":%d,\"echo\":%d}\n", ports[0], ports[1]);
  fflush(stdout);
  static struct epoll_event events[256];
  for (;;) {
    int n = epoll_wait(ep, events, 256, -1);
    for (int i = 0; i < n; i++) {
      struct peer *p = events[i].data.ptr;
      if (p == &marks[2]) {
        if (read(0, scratch, sizeof scratch) <= 0) exit(0);
        continue;
      }
      if (p == &marks[0] || p == &marks[1]) {
        int fd = accept4(p->fd, 0, 0, SOCK_NONBLOCK), one = 1;
        if (fd < 0) continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct peer *fresh = calloc(1, sizeof *fresh);
        fresh->fd = fd;
        fresh->bulk = p == &marks[0];
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = fresh};
        epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
        continue;
      }
      int next = p->bulk ? serve_bulk(p) : serve_echo(p);
      if (next < 0) {
        close(p->fd);
        free(p->echo);
        free(p);
        continue;
      }
      struct epoll_event e = {.events = next ? EPOLLOUT : EPOLLIN, .data.ptr = p};
      epoll_ctl(ep, EPOLL_CTL_MOD, p->fd, &e);
    }
  }
}

/* ---- the load */

struct line {
  int fd;
  SSL *ssl;
};

static SSL_CTX *context; /* null: plain TCP */

static void setup_tls(void) {
  const char *folder = getenv("CERTS");
  char path[3][4096];
  snprintf(path[0], sizeof path[0], "%s/client.pem", folder ? folder : ".");
  snprintf(path[1], sizeof path[1], "%s/client-key.pem", folder ? folder : ".");
  snprintf(path[2], sizeof path[2], "%s/ca.pem", folder ? folder : ".");
  context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, 0);
  if (SSL_CTX_use_certificate_chain_file(context, path[0]) != 1 || SSL_CTX_use_PrivateKey_file(context, path[1], SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_load_verify_locations(context, path[2], 0) != 1)
    die("certificates in %s", folder ? folder : ".");
}

static struct line dial(int port) {
  struct line l = {.fd = socket(AF_INET, SOCK_STREAM, 0)};
  struct sockaddr_in a = loopback(port);
  int one = 1;
  setsockopt(l.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (connect(l.fd, (void *)&a, sizeof a)) die("connect to %d: %s", port, strerror(errno));
  if (!context) return l;
  l.ssl = SSL_new(context);
  SSL_set_fd(l.ssl, l.fd);
  SSL_set_tlsext_host_name(l.ssl, "localhost");
  if (SSL_connect(l.ssl) != 1) die("TLS handshake with %d", port);
  return l;
}

static void hang_up(struct line l) {
  if (l.ssl) {
    SSL_shutdown(l.ssl);
    SSL_free(l.ssl);
  }
  close(l.fd);
}

static void send_all(struct line l, const void *bytes, size_t length) {
  for (size_t done = 0; done < length;) {
    int n = l.ssl ? SSL_write(l.ssl, (char *)bytes + done, length - done) : write(l.fd, (char *)bytes + done, length - done);
    if (n <= 0) die("write");
    done += n;
  }
}

static size_t receive(struct line l, void *bytes, size_t length) {
  int n = l.ssl ? SSL_read(l.ssl, bytes, length) : read(l.fd, bytes, length);
  if (n <= 0) die("the connection ended too early");
  return n;
}

static void receive_all(struct line l, void *bytes, size_t length) {
  for (size_t done = 0; done < length;) done += receive(l, (char *)bytes + done, length - done);
}

static void request(struct line l, char kind, uint64_t total) {
  unsigned char bytes[REQUEST] = {0, 0, 0, 17, kind};
  total = htobe64(total);
  memcpy(bytes + 5, &total, 8);
  send_all(l, bytes, REQUEST);
}

static void up(int port, uint64_t total) {
  struct line l = dial(port);
  double start = now();
  request(l, 'u', total);
  for (uint64_t done = 0; done < total;) {
    uint64_t n = total - done < 65536 ? total - done : 65536;
    send_all(l, scratch, n);
    done += n;
  }
  unsigned char answer[ANSWER];
  receive_all(l, answer, ANSWER);
  uint64_t counted;
  memcpy(&counted, answer + 4, 8);
  if (be64toh(counted) != total) die("%llu bytes of %llu arrived", (unsigned long long)be64toh(counted), (unsigned long long)total);
  printf("{\"seconds\":%.6f}\n", now() - start);
  hang_up(l);
}

static void down(int port, uint64_t total) {
  struct line l = dial(port);
  double start = now();
  request(l, 'd', total);
  for (uint64_t done = 0; done < total;) done += receive(l, scratch, total - done < sizeof scratch ? total - done : sizeof scratch);
  printf("{\"seconds\":%.6f}\n", now() - start);
  hang_up(l);
}

static int ascending(const void *a, const void *b) {
  double x = *(double *)a, y = *(double *)b;
  return (x > y) - (x < y);
}

static void echo(int port, int size, int warm, int count) {
  if (size > CHUNK || count < 1) die("echo: size or count");
  struct line l = dial(port);
  double *took = malloc(count * sizeof *took);
  for (int i = -warm; i < count; i++) {
    double start = now();
    send_all(l, scratch, size);
    receive_all(l, scratch, size);
    if (i >= 0) took[i] = now() - start;
  }
  qsort(took, count, sizeof *took, ascending);
  printf("{\"p50us\":%.1f,\"p99us\":%.1f}\n", took[count / 2] * 1e6, took[(long)count * 99 / 100] * 1e6);
  hang_up(l);
}

static void one_connection(int port) {
  char byte = 'x';
  struct line l = dial(port);
  send_all(l, &byte, 1);
  receive_all(l, &byte, 1);
  hang_up(l);
}

static void connections(int port, int count, int jobs) {
  double start = now();
  for (int job = 0; job < jobs; job++) {
    pid_t child = fork();
    if (child < 0) die("fork");
    if (child > 0) continue;
    for (int i = job; i < count; i += jobs) one_connection(port);
    exit(0);
  }
  for (int job = 0, status; job < jobs; job++)
    if (wait(&status) < 0 || status != 0) die("a job failed");
  printf("{\"seconds\":%.6f}\n", now() - start);
}

static void hold(int port, int count) {
  char byte = 'x';
  for (int i = 0; i < count; i++) {
    struct line l = dial(port);
    send_all(l, &byte, 1);
    receive_all(l, &byte, 1);
  }
  printf("{\"held\":%d}\n", count);
  fflush(stdout);
  while (read(0, scratch, sizeof scratch) > 0) continue;
}

/* /proc counts in 10 ms; a process's clock does not. One that has ended counts nothing. */
static void cpu(int count, char **pids) {
  double sum = 0;
  for (int i = 0; i < count; i++) {
    clockid_t clock;
    struct timespec t;
    if (clock_getcpuclockid(atoi(pids[i]), &clock) == 0 && clock_gettime(clock, &t) == 0) sum += t.tv_sec + t.tv_nsec / 1e9;
  }
  printf("{\"seconds\":%.9f}\n", sum);
}

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  if (argc == 2 && !strcmp(argv[1], "backend")) backend();
  if (argc > 2 && !strcmp(argv[1], "cpu")) return cpu(argc - 2, argv + 2), 0;
  long number[4] = {0};
  if (argc < 5 || argc > 7) die("usage: see the head of load.c");
  for (int i = 3; i < argc; i++) number[i - 3] = atol(argv[i]);
  if (!strcmp(argv[1], "tls")) setup_tls();
  if (!strcmp(argv[2], "up")) up(number[0], number[1]);
  else if (!strcmp(argv[2], "down")) down(number[0], number[1]);
  else if (!strcmp(argv[2], "echo")) echo(number[0], number[1], number[2], number[3]);
  else if (!strcmp(argv[2], "connections")) connections(number[0], number[1], number[2]);
  else if (!strcmp(argv[2], "hold")) hold(number[0], number[1]);
  else die("usage: see the head of load.c");
  return 0;
}
