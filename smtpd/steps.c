#include "smtpd/steps.h"

uint64_t steps_taken;
