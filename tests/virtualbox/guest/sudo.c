/* sudo, as far as a guest of the tests needs one: everybody may become root, without a password. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (!strcmp(argv[i], "--")) {
            i++;
            break;
        }
        if (!strcmp(argv[i], "-u")) { /* sudo -u root */
            if (++i >= argc || strcmp(argv[i], "root")) {
                fprintf(stderr, "sudo: only root is known here\n");
                return 1;
            }
        } else if (strspn(argv[i] + 1, "EHnS") != strlen(argv[i] + 1)) {
            fprintf(stderr, "sudo: option %s is not known here\n", argv[i]);
            return 1;
        } else if (strchr(argv[i], 'H')) {
            setenv("HOME", "/root", 1);
        }
    }
    if (i >= argc) {
        fprintf(stderr, "usage: sudo [-EHnS] [-u root] command\n");
        return 1;
    }
    if (setgid(0) || setuid(0)) {
        perror("sudo");
        return 1;
    }
    execvp(argv[i], argv + i);
    perror(argv[i]);
    return 127;
}
