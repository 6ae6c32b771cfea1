/* The schema this build works with: the number of the highest file in sql/migrations. A daemon refuses any other. */
#ifndef MINUTEMAIL_SCHEMA_H
#define MINUTEMAIL_SCHEMA_H

#define SCHEMA_VERSION 24

#endif
