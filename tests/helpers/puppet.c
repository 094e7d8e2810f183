/* An endpoint's program that does what a named pipe says, a letter at a time; its stdin has the pipe's path. It says its
 * process id first, and answers a letter that it outlives with the id of the process that the letter is about. */
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static void answer(pid_t pid)
{
    char line[16];
    int length = snprintf(line, sizeof line, "%d\n", (int)pid);
    if (write(1, line, length) != length)
        _exit(1);
}

static void stay(int deaf)
{
    if (deaf)
        signal(SIGTERM, SIG_IGN);
    for (;;)
        pause();
}

static pid_t spawn_daemon(void)
{
    int ends[2];
    pid_t middle, daemon = 0;
    if (pipe(ends) || (middle = fork()) < 0)
        _exit(1);
    if (middle == 0) {
        setsid();
        if ((daemon = fork()) == 0)
            stay(1);
        _exit(write(ends[1], &daemon, sizeof daemon) != sizeof daemon);
    }
    waitpid(middle, NULL, 0);
    if (read(ends[0], &daemon, sizeof daemon) != sizeof daemon)
        _exit(1);
    close(ends[0]);
    close(ends[1]);
    return daemon;
}

static void open_mouth(void)
{
    char path[PATH_MAX] = "";
    int mouth;
    if (read(0, path, sizeof path - 1) <= 0 || (mouth = open(path, O_RDONLY)) < 0 || dup2(mouth, 0) < 0)
        _exit(1);
    close(mouth);
}

int main(void)
{
    char letter;
    pid_t pid;
    open_mouth();
    answer(getpid());
    while (read(0, &letter, 1) == 1)
        switch (letter) {
        case 'f': /* a child */
            if ((pid = fork()) == 0)
                stay(0);
            answer(pid);
            break;
        case 'd': /* a daemon that ignores TERM */
            answer(spawn_daemon());
            break;
        case 'i': /* ignore TERM */
            signal(SIGTERM, SIG_IGN);
            answer(getpid());
            break;
        case 's':
            raise(SIGSEGV);
            break;
        default: /* a digit: the exit code */
            _exit(letter - '0');
        }
    stay(0); /* nobody speaks to it any more */
}
