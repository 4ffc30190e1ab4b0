/*
 * Says its number, then "called" for each line that it reads, after one call of each function that is probed. Of `turn`,
 * the last call has then not returned yet.
 */
#define _DEFAULT_SOURCE
#define _XOPEN_SOURCE 700
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int probed(int n); /* of the library */

__attribute__((noinline, noipa)) static int inner(int n)
{
	return n * 5 + 1;
}

static volatile long sum;
static char line[64];

__attribute__((noinline, noipa)) static int turn(void)
{
	/* a64l: a function of the C library that nobody else calls. */
	sum += probed(sum) + inner(sum) + a64l("zz");
	printf("called\n");
	return fgets(line, sizeof(line), stdin) != NULL;
}

int main(void)
{
	int more;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("%d\n", (int)getpid());
	more = fgets(line, sizeof(line), stdin) != NULL;
	while (more)
		more = turn();
	return 0;
}
