/* mime: rows of whole messages and what must come of them, each also in all its truncations; then what is meant to
 * hurt, each with its cap's warning and in linear time. Rows leave CRLF out where it does not matter: "\n" is
 * written, CRLF is parsed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "common/sha256.h"
#include "common/text.h"
#include "smtpd/mime.h"

struct row {
	const char *what, *source;
	const char *from, *name, *to, *cc, *reply_to, *subject, *text, *html; /* lists joined by " | "; text with "\n" */
	const char *parts;    /* "name type size flags[ cid]" joined by " | "; flags i(nline), u(nnamed) or - */
	const char *warnings; /* joined by blanks */
};

#define PLAIN "From: a@b.c\n"

static const struct row rows[] = {
	{"plain", "From: Ann <a@b.c>\nTo: x@y\nSubject: Hi\n\nHello\nthere\n", .from = "a@b.c", .name = "Ann", .to = "x@y",
     .subject = "Hi", .text = "Hello\nthere\n"},
	{"empty message", "", .text = "", .warnings = "no_headers"},
	{"no headers", "\nHello\n", .text = "Hello\n", .warnings = "no_headers"},
	{"first line is no header", "Hello there\nTo: x\n\nz\n", .text = "Hello there\nTo: x\n\nz\n",
     .warnings = "no_headers"},
	{"mbox line", "From x@y Mon Jan  1\n" PLAIN "\nHi\n", .from = "a@b.c", .text = "Hi\n"},
	{"headers end without an empty line", PLAIN "Subject: x\nHello there\n", .from = "a@b.c", .subject = "x",
     .text = "Hello there\n"},
	{"end inside the headers", PLAIN "Subject: x", .from = "a@b.c", .subject = "x", .text = ""},
	{"folded and odd names", "FROM : a@b.c\nsubject:\n one\n\ttwo\n\n", .from = "a@b.c", .subject = "one two",
     .text = ""},
	{"duplicates", PLAIN "From: z@z\nSubject: 1\nSubject: 2\nTo: x@y\nTo: z@y\n\n", .from = "a@b.c", .subject = "1",
     .to = "x@y | z@y", .text = "", .warnings = "conflicting_header"},
	{"the same twice is no conflict", PLAIN PLAIN "\n", .from = "a@b.c", .text = ""},

	/* addresses, RFC 5322 3.4 and 4.4, RFC 7103 7.1 */
	{"addresses", "To: \"Doe, J\" <j@x>, (c) k@x (Kay), <@r1,@r2:l@x>, \"a b\"@x, m @ x . y, group: n@x, o@x;, <>\n\n",
     .to = "j@x | k@x | l@x | \"a b\"@x | m@x.y | n@x | o@x", .text = ""},
	{"undisclosed", "To: undisclosed-recipients:;\nCc: Group: ;, z@x\n\n", .cc = "z@x", .text = ""},
	{"sloppy addresses",
     "To: Doe, Jane <j@x>, <<k@x>>, <l@x, m@x, n@x <n@x>, Bob <o@x> p@x, q@x\nReply-To: r@x; s@x\n\n",
     .to = "j@x | k@x | l@x | m@x | n@x | o@x | p@x | q@x", .reply_to = "r@x | s@x", .text = ""},
	{"name with a comma, unquoted", "From: Doe, Jane <j@x>\n\n", .from = "j@x", .name = "Doe, Jane", .text = ""},
	{"name in a comment", "From: j@x (Jane (Q.) Doe)\n\n", .from = "j@x", .name = "Jane (Q.) Doe", .text = ""},
	{"name quoted", "From: \"Jane \\\"Q\\\" Doe\" <j@x>\n\n", .from = "j@x", .name = "Jane \"Q\" Doe", .text = ""},
	{"name encoded", "From: =?utf-8?B?0JjQstCw0L0=?= =?utf-8?B?INCf?= <i@x>\n\n", .from = "i@x", .name = "Иван П",
     .text = ""},
	{"name encoded with specials", "From: =?utf-8?Q?Doe,_Jane:_a@b?= <j@x>\n\n", .from = "j@x",
     .name = "Doe, Jane: a@b", .text = ""},
	{"name encoded in quotes", "From: \"=?utf-8?Q?=C3=84?=\" <j@x>\n\n", .from = "j@x", .name = "Ä", .text = ""},
	{"no address in From", "From: nobody\n\n", .text = ""},
	{"unclosed", "To: \"a <b@x>, c@x\nCc: (a b@x, c@x\nReply-To: <d@x\n\n", .to = "b@x | c@x", .cc = "b@x | c@x",
     .reply_to = "d@x", .text = ""},
	{"IDN stays as written", "To: x@xn--e1afmkfd.xn--p1ai, y@пример.рф\n\n",
     .to = "x@xn--e1afmkfd.xn--p1ai | y@пример.рф", .text = "", .warnings = "8bit_header"},
	{"address literal", "To: x@[IPv6:2001:db8::1], <y@[1.2.3.4]>\n\n", .to = "x@[IPv6:2001:db8::1] | y@[1.2.3.4]",
     .text = ""},

	/* subjects */
	{"words of GMime's bug 133", "Subject: =?UTF-8?B?SGVsbG8=?= =?UTF-8?B?IHdvcmxk?=\n\n", .subject = "Hello world",
     .text = ""},
	{"injection", "Subject: =?utf-8?q?a=0d=0aBcc:_x?=\n\n", .subject = "a  Bcc: x", .text = ""},
	{"raw header in the body's charset",
     "Subject: \xcf\xf0\xe8\nContent-Type: text/plain; charset=windows-1251\n\n\xcf\n", .subject = "При", .text = "П\n",
     .warnings = "8bit_header"},
	{"NUL in a header", "Subject: a\x01\x02z\n\n", .subject = "a  z", .text = ""},

	/* transfer encodings and charsets */
	{"base64 text", PLAIN "Content-Type: text/plain; charset=koi8-r\nContent-Transfer-Encoding: base64\n\n8NLJ\n",
     .from = "a@b.c", .text = "При"},
	{"qp text, exact flowed",
     PLAIN "Content-Type: text/plain; format=flowed\nContent-Transfer-Encoding: quoted-printable\n\na =20\n b=\nc\n",
     .from = "a@b.c", .text = "a  \n bc\n"},
	{"chunked base64 of GMime's bug 150", PLAIN "Content-Transfer-Encoding: base64\n\nSGVsbG8=\nIHdvcmxk\n",
     .from = "a@b.c", .text = "Hello world", .warnings = "bad_base64"},
	{"bad qp", PLAIN "Content-Transfer-Encoding: quoted-printable\n\n=ZZ\n", .from = "a@b.c", .text = "=ZZ\n",
     .warnings = "bad_quoted_printable"},
	{"unknown encoding", PLAIN "Content-Transfer-Encoding: yenc\n\nx\n", .from = "a@b.c", .text = "x\n",
     .warnings = "unknown_encoding"},
	{"uuencoded text", PLAIN "Content-Transfer-Encoding: x-uuencode\n\nbegin 644 f\n#0V%T\n`\nend\n", .from = "a@b.c",
     .text = "Cat"},
	{"uuencoded files in the text",
     PLAIN "\nsee:\nbegin 644 a/\xd0\xaf.bin\n#0V%T\n#0V%T\n`\nend\nand\nbegin 0600 b\n#0V%T \n\nend\nbye\n", .from = "a@b.c",
     .text = "see:\nand\nbye\n", .parts = "Я.bin application/octet-stream 6 - | b application/octet-stream 3 -",
     .warnings = "uuencoded_attachment"},
	{"uuencoded file as the whole text", PLAIN "\nbegin 644 \n`\nend\n", .from = "a@b.c", .text = "",
     .parts = "attachment-1.bin application/octet-stream 0 u", .warnings = "uuencoded_attachment"},
	{"uuencoded, but not whole, or not quite",
     PLAIN "\nbegin 644 f\n#0V%T\n`\nbegin 644 g\n#0V%\n`\nend\nbegin now\n#0V%T\n`\nend\nbegin 644 h\n#0V%T\nend\n",
     .from = "a@b.c",
     .text = "begin 644 f\n#0V%T\n`\nbegin 644 g\n#0V%\n`\nend\nbegin now\n#0V%T\n`\nend\nbegin 644 h\n#0V%T\nend\n"},
	{"uuencoded between two parts of text",
     PLAIN "Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\n\ntwo\nbegin 644 f\n#0V%T\n`\nend\nthree\n--b--\n",
     .from = "a@b.c", .text = "one\n\ntwo\nthree", .parts = "f application/octet-stream 3 -",
     .warnings = "uuencoded_attachment"},
	{"uuencoded inside another encoding",
     PLAIN "Content-Transfer-Encoding: quoted-printable\n\nbegin 644 f\n#0V%T\n`\nend\n", .from = "a@b.c",
     .text = "begin 644 f\n#0V%T\n`\nend\n"},
	{"yEnc stays text", PLAIN "\n=ybegin line=128 size=3 name=f\nabc\n=yend size=3\n", .from = "a@b.c",
     .text = "=ybegin line=128 size=3 name=f\nabc\n=yend size=3\n"},
	{"unknown charset", PLAIN "Content-Type: text/plain; charset=x-what\n\n\xe9\n", .from = "a@b.c", .text = "é\n",
     .warnings = "unknown_charset bad_charset_data"},
	{"undeclared 8 bit", PLAIN "\n\xe9\n", .from = "a@b.c", .text = "é\n", .warnings = "bad_charset_data"},
	{"undeclared UTF-8", PLAIN "\né\n", .from = "a@b.c", .text = "é\n"},
	{"charset smuggling", PLAIN "Content-Type: text/plain; charset=\"utf-8//IGNORE\"\n\na\n", .from = "a@b.c",
     .text = "a\n", .warnings = "unknown_charset"},
	{"controls go", PLAIN "\na\x01\x1b[2Jb\tc\n", .from = "a@b.c", .text = "a[2Jb\tc\n"},
	{"HTML only",
     PLAIN
     "Content-Type: text/html; charset=utf-8\n\n<p>Hi &amp; <b>bye</b></p><p><a href=\"https://x.y/\">here</a></p>\n",
     .from = "a@b.c", .text = "Hi & bye\n\nhere (https://x.y/)",
     .html = "<p>Hi &amp; <b>bye</b></p><p><a href=\"https://x.y/\">here</a></p>\n", .warnings = "text_from_html"},
	{"HTML that names its charset", PLAIN "Content-Type: text/html\n\n<meta charset=\"windows-1251\">\xcf",
     .from = "a@b.c", .text = "П", .html = "<meta charset=\"windows-1251\">П", .warnings = "text_from_html"},
	{"UTF-7 is not for HTML", PLAIN "Content-Type: text/html; charset=utf-7\n\n+ADw-b+AD4-\n", .from = "a@b.c",
     .text = "+ADw-b+AD4-", .html = "+ADw-b+AD4-\n", .warnings = "unknown_charset text_from_html"},

	/* types */
	{"type without subtype", PLAIN "Content-Type: text\n\nx\n", .from = "a@b.c", .text = "x\n"},
	{"nonsense type, text", PLAIN "Content-Type: ;;\n\nx\n", .from = "a@b.c", .text = "x\n"},
	{"nonsense type, not text", PLAIN "Content-Type: what?\n\n\xff\xfe\n", .from = "a@b.c",
     .parts = "attachment-1.bin application/octet-stream 4 u"},
	{"forgotten semicolon", PLAIN "Content-Type: text/plain charset=koi8-r\n\n\xf0\n", .from = "a@b.c", .text = "П\n"},
	{"two types", PLAIN "Content-Type: text/html\nContent-Type: text/plain\n\nx\n", .from = "a@b.c", .text = "x",
     .html = "x\n", .warnings = "conflicting_header text_from_html"},
	{"two charsets", PLAIN "Content-Type: text/plain; charset=koi8-r; charset=utf-8\n\n\xf0\n", .from = "a@b.c",
     .text = "П\n", .warnings = "conflicting_parameter"},
	{"one part, not text", PLAIN "Content-Type: application/pdf; name=a.pdf\n\n%PDF\n", .from = "a@b.c",
     .parts = "a.pdf application/pdf 6 -"},
	{"text with a name", PLAIN "Content-Type: text/plain; name=a.txt\n\nx\n", .from = "a@b.c",
     .parts = "a.txt text/plain 3 -"},
	{"text as attachment", PLAIN "Content-Disposition: attachment\n\nx\n", .from = "a@b.c",
     .parts = "attachment-1.txt text/plain 3 u"},
	{"unknown disposition", PLAIN "Content-Disposition: what\n\nx\n", .from = "a@b.c",
     .parts = "attachment-1.txt text/plain 3 u"},
	{"rfc822 at the top", PLAIN "Content-Type: message/rfc822\n\nSubject: in\n\nx\n", .from = "a@b.c",
     .parts = "attachment-1.eml message/rfc822 18 u"},

	/* structure */
	{"alternative",
     PLAIN "Content-Type: multipart/alternative; boundary=\"b\"\n\npre\n--b\nContent-Type: text/plain\n\nT\n--b\n"
           "Content-Type: text/html\n\n<p>H\n--b--\nepi\n",
     .from = "a@b.c", .text = "T", .html = "<p>H"},
	{"mixed, related, inline image, attachment",
     PLAIN
     "Content-Type: multipart/mixed; boundary=m\n\n--m\nContent-Type: multipart/related; boundary=r\n\n--r\n"
     "Content-Type: multipart/alternative; boundary=a\n\n--a\n\nT\n--a\nContent-Type: text/html\n\n<img "
     "src=cid:i@x>\n--a--\n\n--r\n"
     "Content-Type: image/png; name=i.png\nContent-ID: <i@x>\nContent-Transfer-Encoding: base64\n\nAAAA\n--r--\n--m\n"
     "Content-Type: text/csv\nContent-Disposition: attachment; filename=\"a.csv\"\n\n1,2\n--m\n\nbye\n--m--\n",
     .from = "a@b.c", .text = "T\n\nbye", .html = "<img src=cid:i@x>",
     .parts = "i.png image/png 3 i i@x | a.csv text/csv 3 -"},
	{"inline disposition",
     PLAIN "Content-Type: multipart/mixed; boundary=m\n\n--m\nContent-Type: image/gif\nContent-Disposition: "
           "inline\n\nGIF\n--m--\n",
     .from = "a@b.c", .parts = "attachment-1.gif image/gif 3 iu"},
	{"a message inside is one attachment",
     PLAIN "Content-Type: multipart/mixed; boundary=m\n\n--m\n\nout\n--m\nContent-Type: message/rfc822\n\n"
           "Subject: in\nContent-Type: multipart/mixed; boundary=i\n\n--i\n\nin\n--i\nContent-Type: image/png; "
           "name=x\n\nP\n--i--\n--m--\n",
     .from = "a@b.c", .text = "out", .parts = "attachment-1.eml message/rfc822 117 u"},
	{"digest", PLAIN "Content-Type: multipart/digest; boundary=m\n\n--m\n\nSubject: in\n\nx\n--m--\n", .from = "a@b.c",
     .parts = "attachment-1.eml message/rfc822 16 u"},
	{"report",
     PLAIN "Content-Type: multipart/report; boundary=m\n\n--m\n\nfailed\n--m\nContent-Type: "
           "message/delivery-status\n\nAction: failed\n--m\n"
           "Content-Type: text/rfc822-headers\n\nSubject: x\n--m--\n",
     .from = "a@b.c", .text = "failed\n\nSubject: x", .parts = "attachment-1.txt message/delivery-status 14 u"},
	{"calendar beside text",
     PLAIN
     "Content-Type: multipart/alternative; boundary=m\n\n--m\n\nT\n--m\nContent-Type: text/calendar\n\nBEGIN\n--m--\n",
     .from = "a@b.c", .text = "T", .parts = "attachment-1.ics text/calendar 5 u"},
	{"signed",
     PLAIN "Content-Type: multipart/signed; boundary=m\n\n--m\n\nT\n--m\nContent-Type: "
           "application/pgp-signature\n\nS\n--m--\n",
     .from = "a@b.c", .text = "T", .parts = "attachment-1.asc application/pgp-signature 1 u"},
	{"no boundary", PLAIN "Content-Type: multipart/mixed\n\n--b\n\nx\n", .from = "a@b.c", .text = "--b\n\nx\n",
     .warnings = "no_boundary"},
	{"boundary never seen", PLAIN "Content-Type: multipart/mixed; boundary=b\n\nx\n", .from = "a@b.c", .text = "x\n",
     .warnings = "missing_end_boundary"},
	{"no end", PLAIN "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n", .from = "a@b.c", .text = "x\n",
     .warnings = "missing_end_boundary"},
	{"inner end missing",
     PLAIN "Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: multipart/mixed; "
           "boundary=i\n\n--i\n\nx\n--o\n\ny\n--o--\n",
     .from = "a@b.c", .text = "x\n\ny", .warnings = "missing_end_boundary"},
	{"prefix boundary",
     PLAIN "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--bX\ny\n--b--x\n--b  \n\nz\n--b--\t\n",
     .from = "a@b.c", .text = "x\n--bX\ny\n--b--x\n\nz"},
	{"same boundary inside",
     PLAIN "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; "
           "boundary=b\n\n--b\n\nx\n--b--\n--b\n\ny\n--b--\n",
     .from = "a@b.c", .text = "x\n\ny"},
	{"empty parts", PLAIN "Content-Type: multipart/mixed; boundary=b\n\n--b\n--b\n\n--b\n\n\n--b\n\nx\n--b--\n",
     .from = "a@b.c", .text = "x"},
	{"delimiter ends a part's headers",
     PLAIN "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: image/png\n--b\n\nx\n--b--\n",
     .from = "a@b.c", .text = "x", .parts = "attachment-1.png image/png 0 u"},
	{"encoded multipart whose parts are not",
     PLAIN
     "Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: quoted-printable\n\n--b\n\nx=3D\n--b--\n",
     .from = "a@b.c", .text = "x=3D"},
	{"encoded multipart",
     PLAIN "Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: base64\n\nLS1i\n", .from = "a@b.c",
     .parts = "attachment-1.bin multipart/mixed 3 u", .warnings = "missing_end_boundary"},
	{"boundary too long",
     PLAIN
     "Content-Type: multipart/mixed; "
     "boundary=bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
     "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
     "bbb\n\nx\n",
     .from = "a@b.c", .parts = "attachment-1.bin multipart/mixed 3 u", .warnings = "boundary_too_long"},

	/* names, RFC 2183, 2231 and what mailers do */
	{"name in RFC 2231 pieces", PLAIN "Content-Type: a/b;\n name*0*=koi8-r''%F0;\n name*1*=%D2;\n name*2=\"x.b\"\n\n",
     .from = "a@b.c", .parts = "Прx.b a/b 0 -"},
	{"pieces out of order", PLAIN "Content-Type: a/b; name*1=b; name*0=a\n\n", .from = "a@b.c", .parts = "ab a/b 0 -"},
	{"both forms", PLAIN "Content-Disposition: attachment; filename=\"e.txt\"; filename*=utf-8''%D0%AF.txt\n\n",
     .from = "a@b.c", .parts = "Я.txt text/plain 0 -"},
	{"charset that GMime does not know", PLAIN "Content-Disposition: attachment; filename*=windows-31j''%87%40.txt\n\n",
     .from = "a@b.c", .parts = "①.txt text/plain 0 -"},
	{"encoded words", PLAIN "Content-Type: a/b; name=\"=?utf-8?B?0J8=?=\n =?utf-8?B?0YAu?= =?utf-8?Q?b?=\"\n\n",
     .from = "a@b.c", .parts = "Пр.b a/b 0 -"},
	{"raw name", PLAIN "Content-Type: a/b; name=\"\xe9.b\"\n\n", .from = "a@b.c", .parts = "é.b a/b 0 -",
     .warnings = "8bit_header"},
	{"unquoted with blanks", PLAIN "Content-Disposition: attachment; filename=my file.txt\n\n", .from = "a@b.c",
     .parts = "my file.txt text/plain 0 -"},
	{"disposition's name wins", PLAIN "Content-Type: a/b; name=x\nContent-Disposition: attachment; filename=y\n\n",
     .from = "a@b.c", .parts = "y a/b 0 -"},
	{"two names", PLAIN "Content-Disposition: attachment; filename=y; filename=z\n\n", .from = "a@b.c",
     .parts = "y text/plain 0 -", .warnings = "conflicting_parameter"},
	{"hostile name",
     PLAIN "Content-Disposition: attachment; filename*=utf-8''..%2f..%2fx%e2%80%aegnp.exe%0d%0aX:%20y\n\n",
     .from = "a@b.c", .parts = "xgnp.exe X_ y text/plain 0 -"},
	{"empty name", PLAIN "Content-Disposition: attachment; filename=\"/\"\n\n", .from = "a@b.c",
     .parts = "attachment-1.txt text/plain 0 u"},
};

static char *crlf(const char *s, size_t *ret_n) {
	struct buf b;
	buf_init(&b, 1 << 20);
	for (; *s; s++)
		buf_append(&b, *s == '\n' ? "\r\n" : s, *s == '\n' ? 2 : 1);
	return buf_take(&b, ret_n);
}

static void check(const char *what, const char *field, const char *got, const char *want) {
	if (!got != !want || (got && strcmp(got, want) != 0))
		fail_msg("%s: %s is \"%s\", not \"%s\"", what, field, got ? got : "(null)", want ? want : "(null)");
}

static void check_text(const char *what, const char *field, const char *got, const char *want) {
	char *w = want ? crlf(want, NULL) : NULL, *lf = got ? xstrdup(got) : NULL, *wlf = want ? xstrdup(want) : NULL;
	/* the blank line between joined texts is ours and bare; compare without CR */
	for (char *s = lf, *d = lf; lf && (*d = *s); s++)
		d += *d != '\r';
	check(what, field, lf, wlf);
	free(w);
	free(lf);
	free(wlf);
}

static void check_list(const char *what, const char *field, const struct message_strings *got, const char *want,
                       const char *between) {
	struct buf b;
	buf_init(&b, 1 << 20);
	for (unsigned i = 0; i < got->n; i++) {
		buf_append_str(&b, i ? between : "");
		buf_append_str(&b, got->v[i]);
	}
	check(what, field, b.len ? b.data : NULL, want);
	buf_fini(&b);
}

static void check_parts(const char *what, const struct part_table *t, const char *want) {
	struct buf b;
	buf_init(&b, 1 << 20);
	for (unsigned i = 0; i < t->count; i++) {
		const struct part *p = &t->parts[i];
		buf_printf(&b, "%s%s %s %u %s%s%s%s%s", i ? " | " : "", p->name, p->type, (unsigned)p->size,
		           p->flags & PART_INLINE ? "i" : "", p->flags & PART_UNNAMED ? "u" : "", p->flags ? "" : "-",
		           p->content_id ? " " : "", p->content_id ? p->content_id : "");
	}
	check(what, "parts", b.len ? b.data : NULL, want);
	buf_fini(&b);
}

/* What holds for every message: it can cross the channel, and its digests are those of what its offsets say. */
static void check_sound(const struct message *m, const char *source, size_t n) {
	struct message *got;
	struct buf b;
	buf_init(&b, 16 << 20);
	assert_int_equal(message_encode(m, &b), 0);
	assert_int_equal(message_decode(b.len ? b.data : "", b.len, n, &got), 0);
	message_free(got);
	for (unsigned i = 0; i < m->parts.count; i++) {
		const struct part *p = &m->parts.parts[i];
		struct transfer t;
		uint8_t digest[SHA256_LEN];
		transfer_init(&t, p->encoding);
		uint8_t *out = xmalloc(transfer_bound(&t, (size_t)p->length) + 80);
		size_t len = transfer_run(&t, source + p->offset, (size_t)p->length, out);
		len += transfer_end(&t, out + len);
		assert_int_equal(len, p->size);
		sha256_of(out, len, digest);
		assert_memory_equal(digest, p->sha256, SHA256_LEN);
		free(out);
	}
	buf_fini(&b);
}

static void test_rows(void **state) {
	for (size_t i = 0; i < array_len(rows); i++) {
		const struct row *r = &rows[i];
		size_t n;
		char *source = crlf(r->source, &n);
		struct message *m = mime_parse(source, n, &MIME_LIMITS);
		check(r->what, "from", m->from_address, r->from);
		check(r->what, "name", m->from_name, r->name);
		check_list(r->what, "to", &m->to, r->to, " | ");
		check_list(r->what, "cc", &m->cc, r->cc, " | ");
		check_list(r->what, "reply-to", &m->reply_to, r->reply_to, " | ");
		check(r->what, "subject", m->subject, r->subject);
		check_text(r->what, "text", m->body_text, r->text);
		check_text(r->what, "html", m->body_html, r->html);
		check_parts(r->what, &m->parts, r->parts);
		check_list(r->what, "warnings", &m->warnings, r->warnings, " ");
		check_sound(m, source, n);
		message_free(m);
		free(source);
	}
}

/* Each truncation of each row, in memory of exactly its size, so that a sanitizer sees a step too far. */
static void test_truncations(void **state) {
	for (size_t i = 0; i < array_len(rows); i++) {
		size_t n;
		char *source = crlf(rows[i].source, &n);
		for (size_t k = 0; k < n; k++) {
			char *copy = xmemdup(source, k);
			struct message *m = mime_parse(copy, k, &MIME_LIMITS);
			check_sound(m, copy, k);
			message_free(m);
			free(copy);
		}
		free(source);
	}
}

static void test_octets(void **state) {
	static const char nul[] = "Subject: a\0b\r\n\r\nc\0d\r\n";
	struct message *m = mime_parse(nul, sizeof nul - 1, &MIME_LIMITS);
	assert_string_equal(m->subject, "a\xef\xbf\xbd"
	                                "b");
	assert_string_equal(m->body_text, "c\xef\xbf\xbd"
	                                  "d\r\n");
	check_list("nul", "warnings", &m->warnings, "nul_octet", " ");
	message_free(m);
	m = mime_parse("a: b\n\nc\rd\r\n", 11, &MIME_LIMITS);
	check_list("bare", "warnings", &m->warnings, "bare_newline bare_cr", " ");
	assert_string_equal(m->body_text, "cd\r\n");
	message_free(m);
	m = mime_parse("Received: a\r\nreceived: b\r\nX: y\r\n\r\nReceived: c\r\n", 48, &MIME_LIMITS);
	assert_int_equal(m->received_count, 2);
	message_free(m);
}

/* Exactly what is in the source, CR included. */
static void test_exact(void **state) {
	static const char s[] = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\na \r\n "
	                        "b\r\n\r\n--b\r\nContent-Type: a/b\r\n\r\nxyz\r\n\r\n--b--\r\n";
	struct message *m = mime_parse(s, sizeof s - 1, &MIME_LIMITS);
	assert_string_equal(m->body_text, "a \r\n b\r\n");
	assert_int_equal(m->parts.count, 1);
	assert_memory_equal(s + m->parts.parts[0].offset, "xyz\r\n\r\n--b--", 12);
	assert_int_equal(m->parts.parts[0].length, 5);
	message_free(m);
}

/* --- what is meant to hurt --- */

static void repeat(struct buf *b, const char *s, size_t n) {
	while (n-- > 0)
		buf_append_str(b, s);
}

static void start(struct buf *b) {
	buf_init(b, 64 << 20);
	buf_append_str(b, "From: a@b.c\r\nSubject: kept\r\n");
}

static double seconds(void) {
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Half a second is ten to a hundred times what it takes, and far from what a quadratic step would. */
static struct message *parse_monster(struct buf *b, const char *warning, const char *what) {
	double before = seconds();
	struct message *m = mime_parse(b->data, b->len, &MIME_LIMITS);
	double took = seconds() - before;
	if (warning && !message_warned(m, warning))
		fail_msg("no warning %s", warning);
	if (took > 0.5)
		fail_msg("%s: %.3f s", what, took);
	assert_string_equal(m->from_address, "a@b.c");
	assert_string_equal(m->subject, "kept");
	check_sound(m, b->data, b->len);
	buf_fini(b);
	return m;
}

static void test_groups(void **state) {
	static const unsigned counts[] = {50, 51, 2000, 50000};
	for (size_t i = 0; i < array_len(counts); i++) {
		struct buf b;
		start(&b);
		buf_append_str(&b, "To: ");
		repeat(&b, "a:", counts[i]);
		buf_append_str(&b, " x@y\r\n\r\nbody\r\n");
		struct message *m = parse_monster(&b, counts[i] > 50 ? "too_many_groups" : NULL, __func__);
		assert_int_equal(m->to.n, counts[i] > 50 ? 0 : 1);
		assert_string_equal(m->body_text, "body\r\n");
		message_free(m);
	}
	/* the same inside an attached message, which nobody opens */
	struct buf b;
	start(&b);
	buf_append_str(&b, "Content-Type: message/rfc822\r\n\r\nTo: ");
	repeat(&b, "a:", 50000);
	message_free(parse_monster(&b, NULL, __func__));
}

static void test_many_parts(void **state) {
	struct buf b;
	start(&b);
	buf_append_str(&b, "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nfirst\r\n");
	repeat(&b, "--b\n\n", 200000);
	struct message *m = parse_monster(&b, "too_many_parts", __func__);
	assert_string_equal(m->body_text, "first");
	message_free(m);

	start(&b);
	buf_append_str(&b, "Content-Type: multipart/mixed; boundary=b\r\n\r\n");
	repeat(&b, "--b\r\nContent-Type: a/b\r\n\r\nx\r\n", 999);
	buf_append_str(&b, "--b--\r\n");
	m = parse_monster(&b, NULL, __func__);
	assert_int_equal(m->parts.count, 999);
	assert_int_equal(m->warnings.n, 0);
	message_free(m);
}

static void test_many_parameters(void **state) {
	static const unsigned counts[] = {64, 65, 40000};
	for (size_t i = 0; i < array_len(counts); i++) {
		struct buf b;
		start(&b);
		buf_append_str(&b, "Content-Type: text/html");
		for (unsigned k = 0; k < counts[i]; k++)
			buf_printf(&b, ";\r\n a%u=b", k);
		buf_append_str(&b, "\r\n\r\nbody\r\n");
		struct message *m = parse_monster(&b, counts[i] > 64 ? "too_many_parameters" : NULL, __func__);
		assert_string_equal(m->body_html, "body\r\n");
		message_free(m);
	}
	struct buf b;
	start(&b);
	buf_append_str(&b, "Content-Disposition: attachment");
	for (unsigned k = 0; k < 30000; k++)
		buf_printf(&b, "; filename*%u*=x''y", k);
	buf_append_str(&b, "\r\n\r\nbody\r\n");
	struct message *m = parse_monster(&b, "too_many_parameters", __func__);
	assert_int_equal(m->parts.count, 1);
	message_free(m);
}

static void test_many_headers(void **state) {
	struct buf b;
	start(&b);
	repeat(&b, "a:\r\n", 500000);
	buf_append_str(&b, "\r\nbody\r\n");
	struct message *m = parse_monster(&b, "too_many_headers", __func__);
	assert_string_equal(m->body_text, "body\r\n");
	message_free(m);

	start(&b); /* over many parts */
	buf_append_str(&b, "Content-Type: multipart/mixed; boundary=b\r\n\r\n");
	for (int i = 0; i < 100; i++) {
		buf_append_str(&b, "--b\r\n");
		repeat(&b, "a:\r\n", 900);
		buf_append_str(&b, "\r\nx\r\n");
	}
	message_free(parse_monster(&b, "too_many_headers", __func__));

	start(&b);
	buf_append_str(&b, "X: ");
	repeat(&b, "x\r\n ", 100000);
	buf_append_str(&b, "\r\nTo: x@y\r\n\r\n");
	m = parse_monster(&b, "header_too_long", __func__);
	assert_int_equal(m->to.n, 1);
	message_free(m);

	start(&b);
	for (int i = 0; i < 5; i++) {
		buf_append_str(&b, "X: ");
		repeat(&b, "x", 60000);
		buf_append_str(&b, "\r\n");
	}
	buf_append_str(&b, "To: x@y\r\n\r\nbody\r\n");
	m = parse_monster(&b, "header_block_too_long", __func__);
	assert_int_equal(m->to.n, 0);
	assert_string_equal(m->body_text, "body\r\n");
	message_free(m);
}

static void test_nesting(void **state) {
	static const char *const tails[] = {"--\r\n", "--b\r\n",
	                                    "--b0000000000000000000000000000000000000000000000000000\r\n"};
	for (size_t k = 0; k < array_len(tails); k++) {
		struct buf b;
		start(&b);
		for (unsigned i = 0; i < 1024; i++)
			buf_printf(&b, "Content-Type: multipart/mixed; boundary=b%u\r\n\r\n--b%u\r\n", i, i);
		repeat(&b, tails[k], (2 << 20) / strlen(tails[k]));
		struct message *m = parse_monster(&b, "too_deep", __func__);
		assert_int_equal(m->parts.count, 1); /* what is deeper, as one */
		message_free(m);
	}
	struct buf b;
	start(&b);
	repeat(&b, "Content-Type: message/rfc822\r\n\r\n", 1024);
	struct message *m = parse_monster(&b, NULL, __func__);
	assert_int_equal(m->parts.count, 1);
	message_free(m);

	start(&b); /* as deep as may be */
	for (unsigned i = 0; i < 32; i++)
		buf_printf(&b, "Content-Type: multipart/mixed; boundary=b%u\r\n\r\n--b%u\r\n", i, i);
	buf_append_str(&b, "\r\ndeep\r\n");
	for (unsigned i = 32; i-- > 0;)
		buf_printf(&b, "--b%u--\r\n", i);
	m = parse_monster(&b, NULL, __func__);
	assert_string_equal(m->body_text, "deep");
	assert_int_equal(m->warnings.n, 0);
	message_free(m);
}

/* Headers and bodies made of what a parser might look up again and again. */
static void test_repeated(void **state) {
	static const struct {
		const char *before, *unit, *after;
		size_t n;
	} monsters[] = {
		{"To: ", "a b,", "\r\n\r\n", 16000},
		{"To: ", "<\"", "\r\n\r\n", 30000},
		{"To: ", "(", "\r\n\r\n", 60000},
		{"To: ", "\"", "\r\n\r\n", 60001},
		{"To: ", "=?a?q?", "\r\n\r\n", 10000},
		{"To: ", "<a@b,", "\r\n\r\n", 12000},
		{"To: ", "@", "\r\n\r\n", 60000},
		{"X: x\r\nSubject: kept\r\nTo: ", "=?utf-8?q?a?=", "\r\n\r\n", 4000},
		{"Content-Type: text/html\r\n\r\n", "<a b=\"", "", 300000},
		{"Content-Type: text/html\r\n\r\n", "<a href=\"http://x\">", "", 100000},
		{"Content-Type: text/html\r\n\r\n", "<!--", "", 400000},
		{"Content-Type: text/html\r\n\r\n", "<script>", "", 200000},
		{"Content-Type: text/html\r\n\r\n", "&amp", "", 400000},
		{"Content-Type: text/html\r\n\r\n", "<a ='>", "", 300000},
		{"Content-Type: text/html\r\n\r\n", "<", "", 2000000},
		{"Content-Type: text/plain; charset=iso-2022-jp\r\n\r\n", "\xff", "", 2000000},
		{"Content-Type: text/plain; charset=utf-16\r\n\r\n", "\xd8", "", 2000000},
		{"Content-Transfer-Encoding: quoted-printable\r\n\r\n", "= ", "", 1000000},
		{"Content-Transfer-Encoding: base64\r\n\r\n", "=", "", 2000000},
		{"\r\n", "\r", "", 4000000},
		{"\r\n", "x", "", 30000000},
		{"Content-Type: multipart/mixed; boundary=b\r\n\r\n", "--b ", "", 500000},
		{"\r\n", "begin 644 f\n", "", 500000},
		{"\r\nbegin 644 f\n", "#0V%T\n", "", 500000},
		{"\r\n", "begin 644 f\n#0V%T\n`\nend\n", "", 100000},
	};
	for (size_t i = 0; i < array_len(monsters); i++) {
		struct buf b;
		start(&b);
		buf_append_str(&b, monsters[i].before);
		repeat(&b, monsters[i].unit, monsters[i].n);
		buf_append_str(&b, monsters[i].after);
		message_free(parse_monster(&b, NULL, monsters[i].unit));
	}
}

static void test_many_addresses(void **state) {
	struct buf b;
	start(&b);
	for (int k = 0; k < 3; k++) {
		buf_append_str(&b, "To: ");
		repeat(&b, "x@y,", 15000);
		buf_append_str(&b, "\r\n");
	}
	buf_append_str(&b, "\r\n");
	struct message *m = parse_monster(&b, "too_many_addresses", __func__);
	assert_int_equal(m->to.n, MESSAGE_ADDRESSES_MAX);
	message_free(m);
	start(&b);
	buf_append_str(&b, "To: ");
	repeat(&b, "a", 1001);
	buf_append_str(&b, "@b, c@d\r\n\r\n");
	m = parse_monster(&b, NULL, __func__);
	assert_int_equal(m->to.n, 1);
	message_free(m);
}

static void test_text_cut(void **state) {
	struct buf b;
	start(&b);
	buf_append_str(&b, "Content-Type: text/plain; charset=windows-1251\r\n\r\n");
	repeat(&b, "\xcf\xf0", 1000000);
	struct message *m = parse_monster(&b, "text_cut", __func__);
	assert_int_equal(strlen(m->body_text), MESSAGE_TEXT_MAX);
	message_free(m);

	start(&b);
	buf_append_str(&b, "Content-Type: multipart/mixed; "
	                   "boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\n");
	repeat(&b, "0L/RgNC4", 300000);
	buf_append_str(&b, "\r\n--b\r\n\r\ny\r\n--b--\r\n");
	m = parse_monster(&b, "text_cut", __func__);
	assert_true(strlen(m->body_text) >= MESSAGE_TEXT_MAX - 1 && strlen(m->body_text) <= MESSAGE_TEXT_MAX);
	message_free(m);

	start(&b); /* exactly full is not cut */
	buf_append_str(&b, "\r\n");
	repeat(&b, "x", MESSAGE_TEXT_MAX);
	m = parse_monster(&b, NULL, __func__);
	assert_int_equal(strlen(m->body_text), MESSAGE_TEXT_MAX);
	assert_int_equal(m->warnings.n, 0);
	message_free(m);
}

static void test_html(void **state) {
	static const char *const html[][2] = {
		{"a<br>b<br/><br >c", "a\nb\n\nc"},
		{"<html><head><title>T</title><style>p{}</style></head><body><h1>H</h1><p>a\n  b</p>c</body>", "H\n\na b\n\nc"},
		{"<ul><li>x<li>y</ul>z", "- x\n- y\nz"},
		{"<table><tr><td>1<td>2</tr><tr><td>3</tr></table>", "1 2\n3"},
		{"<a href='http://a/?b&amp;c=d'>x</a>.", "x (http://a/?b&c=d)."},
		{"<a href=\"https://a.b\">https://a.b</a> <a href=mailto:x@y>x@y</a> <a href='javascript:1'>j</a>",
	     "https://a.b x@y j"},
		{"<img alt=\"Logo &lt;\" src=x> <img src=\"http://t/pixel\">", "Logo <"},
		{"&lt;b&gt; &#1055;&#x41f; &euro;&nbsp;1 &nosuch; &amp &#150; &#0;",
	     "<b> ПП €\u00a01 &nosuch; & – \xef\xbf\xbd"},
		{"<!-- a > b -->c<!-- d", "c d"},
		{"a < b and c > d", "a < b and c > d"},
		{"<script>if (a<b) \"</p>\"</script>x", "x"},
		{"<p title=\"a>b\">x", "x"},
		{"<pre>a\r\n  b</pre>c", "a\r\n  b\nc"},
		{"x<", "x<"},
		{"x<a", "x<a"},
		{"x&", "x&"},
		{"", ""},
	};
	for (size_t i = 0; i < array_len(html); i++) {
		struct buf b;
		buf_init(&b, 10000);
		buf_printf(&b, "Content-Type: text/html\r\n\r\n%s", html[i][0]);
		struct message *m = mime_parse(b.data, b.len, &MIME_LIMITS);
		char *got = xstrdup(m->body_text);
		check(html[i][0], "text", got, html[i][1]);
		free(got);
		message_free(m);
		buf_fini(&b);
	}
}

static int setup(void **state) {
	mime_init();
	mime_init();
	return 0;
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_truncations),
		cmocka_unit_test(test_octets),
		cmocka_unit_test(test_exact),
		cmocka_unit_test(test_groups),
		cmocka_unit_test(test_many_parts),
		cmocka_unit_test(test_many_parameters),
		cmocka_unit_test(test_many_headers),
		cmocka_unit_test(test_nesting),
		cmocka_unit_test(test_repeated),
		cmocka_unit_test(test_many_addresses),
		cmocka_unit_test(test_text_cut),
		cmocka_unit_test(test_html),
	};
	return cmocka_run_group_tests(tests, setup, NULL);
}
