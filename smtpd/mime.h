/* The source of a message -> struct message. The structure is walked by us, within fixed bounds; GMime reads the
 * parameters of Content-Type and Content-Disposition, in values that prescan has let through; our own decoders make
 * text, sizes and digests. Pure: no I/O, no time. One thread of a process.
 *
 * Whatever the input, the result is a message (perhaps empty) whose warnings tell what was odd (apid/README.md says what each
 * means; a new one goes there too):
 *   too_many_headers header_too_long header_block_too_long too_deep too_many_parts too_many_parameters too_many_groups
 *   too_many_addresses boundary_too_long text_cut bad_base64 bad_quoted_printable unknown_encoding unknown_charset
 *   bad_charset_data bad_uuencode bad_tnef conflicting_header conflicting_parameter no_boundary missing_end_boundary
 *   no_headers unfolded_header uuencoded_attachment 8bit_header nul_octet bare_newline bare_cr text_from_html parse_failed
 *   not_parsed (over the size that is parsed)
 */
#ifndef MINUTEMAIL_MIME_H
#define MINUTEMAIL_MIME_H

#include "smtpd/message.h"

struct mime_limits {            /* defaults: MIME_LIMITS */
	unsigned fields_entity, fields_message;
	size_t field, field_block;
	unsigned depth, parts, parameters, groups, addresses;
	size_t boundary, text;   /* depth: at most MIME_DEPTH_MAX counts */
};
#define MIME_DEPTH_MAX 64
extern const struct mime_limits MIME_LIMITS;

void mime_init(void);           /* once per process, before anything else: g_mime_init and our options */
/* Never fails and never returns NULL; what GMime cannot have is left unparsed and said in warnings. */
struct message *mime_parse(const void *source, size_t n, const struct mime_limits *);

#endif
