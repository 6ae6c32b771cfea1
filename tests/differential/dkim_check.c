/* Verifies the DKIM signatures of messages for dkim_signed.py: argument 1 is a zone file; standard input has "octets LF message"
 * again and again; each gets a line with the verdicts and their reasons. */
#include "tests/support/dkim_message.h"

#include <stdio.h>

#define NOW 1900000000000000LL
#define MESSAGE_MAX (1024 * 1024)

static struct dns_zone *read_zone(const char *path) {
	static char text[MESSAGE_MAX];
	FILE *f = fopen(path, "r");
	size_t n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;
	if (!f || n == 0)
		abort();
	fclose(f);
	text[n] = '\0';
	return zone_of(text);
}

int main(int argc, char **argv) {
	static char message[MESSAGE_MAX];
	struct dns_zone *zone = argc == 2 ? read_zone(argv[1]) : NULL;
	size_t n;
	char line[32];
	if (!zone)
		return 2;
	while (fgets(line, sizeof(line), stdin)) {
		struct dkim_set set;
		n = strtoul(line, NULL, 10);
		if (n > sizeof(message) || fread(message, 1, n, stdin) != n)
			return 2;
		dkim_message(slice_of(message, n), zone, NOW, 1 + n / 3, &set);
		for (unsigned i = 0; i < set.count; i++)
			printf("%s%s %s", i ? "; " : "", dkim_verdict_name(set.v[i].verdict), set.v[i].reason ? set.v[i].reason : "");
		puts("");
		fflush(stdout);
		dkim_set_fini(&set);
	}
	dns_zone_free(zone);
	return 0;
}
