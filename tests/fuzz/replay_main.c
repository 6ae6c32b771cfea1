/* A main for fuzz targets when no fuzzer is linked: every file named in argv, and every file of a directory named
 * there, goes through LLVMFuzzerTestOneInput() once. A target says what is wrong by abort(). Files are taken in the
 * order of their names, the last one shown is the culprit. An argument that starts with '-' is a fuzzer's option and
 * skipped. */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static unsigned files_run;

static int run_file(const char *path) {
	struct stat st;
	FILE *f = fopen(path, "rb");
	if (!f || fstat(fileno(f), &st) < 0) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		if (f)
			fclose(f);
		return -1;
	}
	/* Exactly as long as the file, so that a sanitizer sees the first octet read past it. */
	size_t size = (size_t)st.st_size;
	uint8_t *p = malloc(size ? size : 1);
	size_t n = p ? fread(p, 1, size, f) : 0;
	fclose(f);
	if (!p || n != size) {
		fprintf(stderr, "%s: cannot read\n", path);
		free(p);
		return -1;
	}
	printf("%s\n", path);
	fflush(stdout);
	LLVMFuzzerTestOneInput(p, size);
	free(p);
	files_run++;
	return 0;
}

static int visible(const struct dirent *e) {
	return e->d_name[0] != '.';
}

static int run_path(const char *path) {
	struct stat st;
	struct dirent **entries;
	if (stat(path, &st) < 0) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return -1;
	}
	if (!S_ISDIR(st.st_mode))
		return run_file(path);
	int n = scandir(path, &entries, visible, alphasort);
	int r = n < 0 ? -1 : 0;
	for (int i = 0; i < n; i++) {
		char child[4096];
		snprintf(child, sizeof(child), "%s/%s", path, entries[i]->d_name);
		if (run_file(child) < 0)
			r = -1;
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	return r;
}

int main(int argc, char **argv) {
	int r = 0;
	for (int i = 1; i < argc; i++) {
		if (argv[i][0] != '-' && run_path(argv[i]) < 0)
			r = 1;
	}
	if (files_run == 0) {
		fprintf(stderr, "no input\n");
		r = 1;
	}
	return r;
}
