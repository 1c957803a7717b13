/* A host of its own on the guest's Ethernet, with whatever MAC and IP address it is told.
 *
 * What OVN's router does on br-ex, seen from the wire: frames leave the guest's network card that
 * carry neither the card's MAC nor its address. This program sends and receives them raw, in
 * promiscuous mode as a bridge port is, and says what it saw, one line each.
 *
 *   stranger [-q] [-v NEXTHOP-MAC] [-w SECONDS] DEVICE MAC IP arp TARGET        who has TARGET?
 *   stranger ... DEVICE MAC IP announce                   a gratuitous ARP
 *   stranger ... DEVICE MAC IP ping TARGET                one echo request
 *   stranger ... DEVICE MAC IP udp TARGET PORT TEXT       one datagram
 *   stranger ... DEVICE MAC IP tcp TARGET PORT            connects, reads what comes first
 *   stranger ... DEVICE MAC IP serve PORT TEXT            answers ARP and ping, and says TEXT to whoever
 *                                                         connects, for SECONDS
 * -q: does not answer when somebody asks for its address by ARP.
 * -v: sends to that MAC without asking; else it first asks for the network's .2 by ARP.
 * Exit code: 0 answered, 1 not.
 */
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

typedef struct __attribute__((packed)) {
    uint8_t to[6], from[6];
    uint16_t type;
} ethernet;
typedef struct __attribute__((packed)) {
    uint16_t hardware, protocol;
    uint8_t hardware_size, protocol_size;
    uint16_t operation;
    uint8_t sender_mac[6];
    uint32_t sender;
    uint8_t target_mac[6];
    uint32_t target;
} arp;
typedef struct __attribute__((packed)) {
    uint8_t version, service;
    uint16_t length, id, fragment;
    uint8_t ttl, protocol;
    uint16_t sum;
    uint32_t from, to;
} ip4;
typedef struct __attribute__((packed)) {
    uint8_t type, code;
    uint16_t sum, id, sequence;
} icmp;
typedef struct __attribute__((packed)) {
    uint16_t from, to, length, sum;
} udp;
typedef struct __attribute__((packed)) {
    uint16_t from, to;
    uint32_t sequence, acknowledged;
    uint8_t offset, flags;
    uint16_t window, sum, urgent;
} tcp;
enum { FIN = 1, SYN = 2, RST = 4, PUSH = 8, ACK = 16 };

static int raw, quiet, device;
static uint8_t mac[6], nexthop[6];
static uint32_t address;
static double deadline;

static const char *mac_text(const uint8_t *m)
{
    static char text[4][18];
    static int turn;
    char *out = text[turn++ % 4];
    snprintf(out, 18, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
    return out;
}

static const char *ip_text(uint32_t ip)
{
    static char text[4][16];
    static int turn;
    return inet_ntop(AF_INET, &ip, text[turn++ % 4], 16);
}

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static void parse_mac(const char *text, uint8_t *out)
{
    if (sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", out, out + 1, out + 2, out + 3, out + 4, out + 5) != 6) {
        fprintf(stderr, "stranger: %s is no MAC address\n", text);
        exit(2);
    }
}

static uint32_t parse_ip(const char *text)
{
    uint32_t ip;
    if (inet_pton(AF_INET, text, &ip) != 1) {
        fprintf(stderr, "stranger: %s is no IP address\n", text);
        exit(2);
    }
    return ip;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint32_t add(uint32_t sum, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < size; i++)
        sum += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
    return sum;
}

static uint16_t fold(uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return htons((uint16_t)~sum);
}

static void send_frame(const uint8_t *to, uint16_t type, const void *payload, size_t size)
{
    uint8_t frame[1514] = {0};
    ethernet *e = (ethernet *)frame;
    memcpy(e->to, to, 6);
    memcpy(e->from, mac, 6);
    e->type = htons(type);
    memcpy(frame + sizeof *e, payload, size);
    size += sizeof *e;
    struct sockaddr_ll out = {.sll_family = AF_PACKET, .sll_ifindex = device, .sll_halen = 6};
    memcpy(out.sll_addr, to, 6);
    if (sendto(raw, frame, size < 60 ? 60 : size, 0, (struct sockaddr *)&out, sizeof out) < 0)
        die("send");
}

static void send_arp(int operation, const uint8_t *to, const uint8_t *target_mac, uint32_t target)
{
    arp a = {htons(1), htons(ETHERTYPE_IP), 6, 4, htons(operation), {0}, address, {0}, target};
    memcpy(a.sender_mac, mac, 6);
    memcpy(a.target_mac, target_mac, 6);
    send_frame(to, ETHERTYPE_ARP, &a, sizeof a);
}

/* `part` is a whole ICMP, UDP or TCP message with its checksum field at `sum_at` still zero. */
static void send_ip(const uint8_t *to, uint32_t target, int protocol, uint8_t *part, size_t size, size_t sum_at)
{
    uint8_t packet[1500] = {0};
    ip4 *i = (ip4 *)packet;
    *i = (ip4){0x45, 0, htons((uint16_t)(sizeof *i + size)), htons((uint16_t)getpid()), 0, 64, (uint8_t)protocol, 0, address, target};
    i->sum = fold(add(0, i, sizeof *i));
    uint32_t sum = 0;
    if (protocol != IPPROTO_ICMP)
        sum = add(add((uint32_t)protocol + (uint32_t)size, &address, 4), &target, 4);
    uint16_t folded = fold(add(sum, part, size));
    memcpy(part + sum_at, &folded, 2);
    memcpy(packet + sizeof *i, part, size);
    send_frame(to, ETHERTYPE_IP, packet, sizeof *i + size);
}

static void send_tcp(const uint8_t *to, uint32_t target, uint16_t from, uint16_t port, uint32_t sequence,
                     uint32_t acknowledged, int flags, const char *text)
{
    uint8_t part[600] = {0};
    size_t size = strlen(text);
    tcp *t = (tcp *)part;
    *t = (tcp){htons(from), htons(port), htonl(sequence), htonl(acknowledged), 0x50, (uint8_t)flags, htons(8192), 0, 0};
    memcpy(part + sizeof *t, text, size);
    send_ip(to, target, IPPROTO_TCP, part, sizeof *t + size, 16);
}

/* The next IP packet for us, of that protocol; ARP requests are answered on the way. NULL: too late.
 * *size is that of the payload after the IP header. */
static uint8_t *receive(int wanted, uint16_t type, size_t *size, uint8_t **from)
{
    static uint8_t frame[65536];
    static const uint8_t all[6] = {255, 255, 255, 255, 255, 255};
    while (now() < deadline) {
        struct sockaddr_ll source;
        socklen_t length = sizeof source;
        ssize_t got = recvfrom(raw, frame, sizeof frame, 0, (struct sockaddr *)&source, &length);
        if (got < (ssize_t)sizeof(ethernet) || source.sll_pkttype == PACKET_OUTGOING)
            continue;
        ethernet *e = (ethernet *)frame;
        int mine = !memcmp(e->to, mac, 6);
        *from = e->from;
        if (e->type == htons(ETHERTYPE_ARP) && got >= (ssize_t)(sizeof *e + sizeof(arp))) {
            arp *a = (arp *)(e + 1);
            if (a->operation == htons(1) && a->target == address && a->sender != address) {
                printf("asked for %s by %s (%s) at %s%s\n", ip_text(a->target), ip_text(a->sender),
                       mac_text(a->sender_mac), mac_text(e->to), quiet ? ", kept quiet" : "");
                if (!quiet)
                    send_arp(2, a->sender_mac, a->sender_mac, a->sender);
            } else if (type == ETHERTYPE_ARP && a->operation == htons(2) && mine) {
                return frame + sizeof *e;
            }
            continue;
        }
        ip4 *i = (ip4 *)(e + 1);
        if (e->type != htons(ETHERTYPE_IP) || got < (ssize_t)(sizeof *e + sizeof *i) || i->to != address)
            continue;
        if (!mine) {
            if (memcmp(e->to, all, 6) && wanted == i->protocol)
                printf("a packet for %s went to %s, not to %s\n", ip_text(i->to), mac_text(e->to), mac_text(mac));
            continue;
        }
        size_t header = (size_t)(i->version & 15) * 4, total = ntohs(i->length);
        if (total < header || total + sizeof *e > (size_t)got)
            continue;
        *size = total - header;
        if (type == ETHERTYPE_IP && (wanted == 0 || i->protocol == wanted))
            return frame + sizeof *e;
    }
    return NULL;
}

static uint8_t *body(uint8_t *packet)
{
    return packet + (packet[0] & 15) * 4;
}

static int do_arp(uint32_t target, uint8_t *found)
{
    static const uint8_t all[6] = {255, 255, 255, 255, 255, 255}, none[6];
    send_arp(1, all, none, target);
    size_t size;
    uint8_t *packet, *from;
    while ((packet = receive(0, ETHERTYPE_ARP, &size, &from))) {
        arp *a = (arp *)packet;
        if (a->sender != target)
            continue;
        printf("%s is at %s, said to %s at %s\n", ip_text(target), mac_text(a->sender_mac), ip_text(a->target),
               mac_text(a->target_mac));
        memcpy(found, a->sender_mac, 6);
        return 0;
    }
    printf("nobody says who has %s\n", ip_text(target));
    return 1;
}

static int do_ping(uint32_t target)
{
    uint8_t part[sizeof(icmp) + 56] = {8};
    icmp *m = (icmp *)part;
    m->id = htons((uint16_t)getpid());
    m->sequence = htons(1);
    send_ip(nexthop, target, IPPROTO_ICMP, part, sizeof part, 2);
    size_t size;
    uint8_t *packet, *from;
    while ((packet = receive(IPPROTO_ICMP, ETHERTYPE_IP, &size, &from))) {
        icmp *answer = (icmp *)body(packet);
        ip4 *i = (ip4 *)packet;
        if (size < sizeof *answer)
            continue;
        if (answer->type == 0 && answer->id == htons((uint16_t)getpid())) {
            printf("echo reply from %s to %s at %s\n", ip_text(i->from), ip_text(i->to), mac_text(mac));
            return 0;
        }
        if (answer->type != 8)
            printf("ICMP type %d code %d from %s\n", answer->type, answer->code, ip_text(i->from));
    }
    printf("no echo reply from %s\n", ip_text(target));
    return 1;
}

static int do_udp(uint32_t target, uint16_t port, const char *text)
{
    uint8_t part[600] = {0};
    size_t length = strlen(text), size;
    uint16_t own = (uint16_t)(20000 + getpid() % 20000);
    *(udp *)part = (udp){htons(own), htons(port), htons((uint16_t)(sizeof(udp) + length)), 0};
    memcpy(part + sizeof(udp), text, length);
    send_ip(nexthop, target, IPPROTO_UDP, part, sizeof(udp) + length, 6);
    uint8_t *packet, *from;
    while ((packet = receive(IPPROTO_UDP, ETHERTYPE_IP, &size, &from))) {
        udp *u = (udp *)body(packet);
        if (size < sizeof *u || u->to != htons(own))
            continue;
        ip4 *i = (ip4 *)packet;
        printf("%s:%d says to %s at %s: %.*s\n", ip_text(i->from), ntohs(u->from), ip_text(i->to), mac_text(mac),
               (int)(size - sizeof *u), (char *)(u + 1));
        return 0;
    }
    printf("no datagram from %s\n", ip_text(target));
    return 1;
}

static int do_tcp(uint32_t target, uint16_t port)
{
    uint16_t own = (uint16_t)(20000 + getpid() % 20000);
    uint32_t mine = 1000, theirs = 0;
    send_tcp(nexthop, target, own, port, mine, 0, SYN, "");
    size_t size;
    uint8_t *packet, *from;
    while ((packet = receive(IPPROTO_TCP, ETHERTYPE_IP, &size, &from))) {
        ip4 *i = (ip4 *)packet;
        tcp *t = (tcp *)body(packet);
        if (size < sizeof *t || t->to != htons(own) || i->from != target)
            continue;
        size_t header = (size_t)(t->offset >> 4) * 4, text = size - header;
        if (t->flags & RST) {
            printf("%s:%d refuses\n", ip_text(target), port);
            return 1;
        }
        if (t->flags & SYN && !theirs) {
            printf("%s:%d accepts %s at %s\n", ip_text(i->from), port, ip_text(i->to), mac_text(mac));
            theirs = ntohl(t->sequence) + 1;
            send_tcp(nexthop, target, own, port, ++mine, theirs, ACK, "");
        } else if (text > 0 && ntohl(t->sequence) == theirs) {
            printf("%s:%d says: %.*s\n", ip_text(target), port, (int)text, (char *)t + header);
            send_tcp(nexthop, target, own, port, mine, theirs + (uint32_t)text, ACK | RST, "");
            return 0;
        }
    }
    printf("no connection to %s:%d\n", ip_text(target), port);
    return 1;
}

static int do_serve(uint16_t port, const char *text)
{
    size_t size;
    uint8_t *packet, *from;
    int served = 1;
    while ((packet = receive(0, ETHERTYPE_IP, &size, &from))) {
        ip4 *i = (ip4 *)packet;
        uint8_t back[6], copy[600];
        memcpy(back, from, 6);
        if (i->protocol == IPPROTO_ICMP && size >= sizeof(icmp) && size <= sizeof copy && *body(packet) == 8) {
            printf("pinged by %s\n", ip_text(i->from));
            memcpy(copy, body(packet), size);
            memset(copy, 0, 4);
            send_ip(back, i->from, IPPROTO_ICMP, copy, size, 2);
        } else if (i->protocol == IPPROTO_TCP && size >= sizeof(tcp)) {
            tcp *t = (tcp *)body(packet);
            uint32_t next = ntohl(t->sequence) + (t->flags & SYN ? 1 : 0);
            if (t->to != htons(port))
                continue;
            if (t->flags & SYN) {
                printf("called by %s\n", ip_text(i->from));
                send_tcp(back, i->from, port, ntohs(t->from), 5000, next, SYN | ACK, "");
            } else if (t->flags & ACK && t->acknowledged == htonl(5001)) {
                send_tcp(back, i->from, port, ntohs(t->from), 5001, next, FIN | PUSH | ACK, text);
                served = 0;
            } else if (t->flags & FIN) {
                send_tcp(back, i->from, port, ntohs(t->from), 5002 + (uint32_t)strlen(text), next + 1, ACK, "");
            }
        }
    }
    return served;
}

int main(int argc, char **argv)
{
    double seconds = 8;
    int option, known = 0;
    while ((option = getopt(argc, argv, "+qv:w:")) != -1) {
        if (option == 'q')
            quiet = 1;
        else if (option == 'v')
            parse_mac(optarg, nexthop), known = 1;
        else if (option == 'w')
            seconds = atof(optarg);
        else
            return 2;
    }
    argv += optind;
    argc -= optind;
    if (argc < 4) {
        fprintf(stderr, "usage: stranger [-q] [-v MAC] [-w SECONDS] DEVICE MAC IP COMMAND...\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    device = (int)if_nametoindex(argv[0]);
    parse_mac(argv[1], mac);
    address = parse_ip(argv[2]);
    raw = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
    struct sockaddr_ll here = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = device};
    struct packet_mreq everything = {.mr_ifindex = device, .mr_type = PACKET_MR_PROMISC};
    struct timeval wait = {.tv_usec = 200000};
    if (!device || raw < 0 || bind(raw, (struct sockaddr *)&here, sizeof here) ||
        setsockopt(raw, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &everything, sizeof everything) ||
        setsockopt(raw, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait))
        die(argv[0]);

    const char *command = argv[3];
    char **rest = argv + 4;
    int count = argc - 4;
    deadline = now() + seconds;
    if (!strcmp(command, "arp") && count == 1)
        return do_arp(parse_ip(rest[0]), nexthop);
    if (!strcmp(command, "announce") && count == 0) {
        static const uint8_t all[6] = {255, 255, 255, 255, 255, 255}, none[6];
        send_arp(1, all, none, address);
        printf("announced %s at %s\n", ip_text(address), mac_text(mac));
        return 0;
    }
    if (!strcmp(command, "serve") && count == 2)
        return do_serve((uint16_t)atoi(rest[0]), rest[1]);
    if (!known) {
        uint32_t gateway = htonl((ntohl(address) & 0xffffff00) | 2);
        if (do_arp(gateway, nexthop))
            return 1;
        deadline = now() + seconds;
    }
    if (!strcmp(command, "ping") && count == 1)
        return do_ping(parse_ip(rest[0]));
    if (!strcmp(command, "udp") && count == 3)
        return do_udp(parse_ip(rest[0]), (uint16_t)atoi(rest[1]), rest[2]);
    if (!strcmp(command, "tcp") && count == 2)
        return do_tcp(parse_ip(rest[0]), (uint16_t)atoi(rest[1]));
    fprintf(stderr, "stranger: %s is not known, or its arguments are not\n", command);
    return 2;
}
