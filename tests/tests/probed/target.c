/* Says its number, then "called" for each line that it reads, after one call of each function that is probed. */
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

int main(void)
{
	char line[64];
	volatile long sum = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("%d\n", (int)getpid());
	while (fgets(line, sizeof(line), stdin)) {
		/* a64l: a function of the C library that nobody else calls. */
		sum += probed(sum) + inner(sum) + a64l("zz");
		printf("called\n");
	}
	return 0;
}
