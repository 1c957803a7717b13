/* VBoxHeadless without a kernel driver, for tests only.
 *
 * VirtualBox's own VBoxHeadless is a setuid stub that insists on /dev/vboxdrv before it loads the
 * real front end. VirtualBox itself can do without: it has an interpreter ("IEM") that runs guests
 * in user space when the support library is opened driverless. This program does what the stub
 * does, and asks for that.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>

#define DIRECTORY "/usr/lib/virtualbox/"
#define SUPR3INIT_F_DRIVERLESS (UINT32_C(1) << 2)
#define SUPR3INIT_F_DRIVERLESS_IEM_ALLOWED (UINT32_C(1) << 3)

static void *load(const char *library)
{
    void *handle = dlopen(library, RTLD_NOW | RTLD_GLOBAL);
    if (!handle)
        fprintf(stderr, "VBoxHeadless: %s\n", dlerror());
    return handle;
}

static void *look_up(void *library, const char *name)
{
    void *found = dlsym(library, name);
    if (!found)
        fprintf(stderr, "VBoxHeadless: %s\n", dlerror());
    return found;
}

int main(int argc, char **argv, char **envp)
{
    void *runtime = load(DIRECTORY "VBoxRT.so");
    if (!runtime)
        return 1;
    int (*init_runtime)(int, char ***, uint32_t) = look_up(runtime, "RTR3InitExe");
    int (*init_support)(uint32_t, void **) = look_up(runtime, "SUPR3InitEx");
    if (!init_runtime || !init_support)
        return 1;
    int status = init_runtime(argc, &argv, 0);
    if (status < 0) {
        fprintf(stderr, "VBoxHeadless: RTR3InitExe gave %d\n", status);
        return 1;
    }
    void *session = NULL;
    status = init_support(SUPR3INIT_F_DRIVERLESS | SUPR3INIT_F_DRIVERLESS_IEM_ALLOWED, &session);
    if (status < 0) {
        fprintf(stderr, "VBoxHeadless: SUPR3InitEx (driverless) gave %d\n", status);
        return 1;
    }
    void *front_end = load(DIRECTORY "VBoxHeadless.so");
    if (!front_end)
        return 1;
    int (*trusted_main)(int, char **, char **) = look_up(front_end, "TrustedMain");
    return trusted_main ? trusted_main(argc, argv, envp) : 1;
}
