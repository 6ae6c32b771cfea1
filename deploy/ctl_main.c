/* minutemailctl: what the operator does by hand. Everything is in ctl_command.c and below, so that tests link it. */
#include "deploy/ctl.h"

int main(int argc, char **argv) {
	return ctl_run(argc, argv, stdout, stderr);
}
