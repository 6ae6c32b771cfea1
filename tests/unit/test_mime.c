/* mime: structure, bodies, transfer encodings and charsets of whole messages. Fields are in test_mime_fields.c, caps and what
 * is meant to hurt in test_mime_caps.c. */
#include "mime_check.h"

static const struct row rows[] = {
	{"plain", "From: Ann <a@b.c>\nTo: x@y\nSubject: Hi\n\nHello\nthere\n", .from = "a@b.c", .name = "Ann", .to = "x@y",
     .subject = "Hi", .text = "Hello\nthere\n"},
	{"empty message", "", .text = "", .warnings = "no_headers"},
	{"no headers", "\nHello\n", .text = "Hello\n", .warnings = "no_headers"},
	{"first line is no header", "Hello there\nTo: x\n\nz\n", .text = "Hello there\nTo: x\n\nz\n",
     .warnings = "no_headers"},
	{"mbox line", "From x@y Mon Jan  1\n" PLAIN "\nHi\n", .from = "a@b.c", .text = "Hi\n"},
	{"mbox line amid the fields", "Delivered-To: x@y\nFrom x@y Mon Jan  1\nReceived: x\n" PLAIN "\nHi\n", .from = "a@b.c",
     .text = "Hi\n"},
	{"mbox line before no field", PLAIN "From x@y I heard\nthat: so\n", .from = "a@b.c", .text = "From x@y I heard\nthat: so\n"},
	{"From with blanks before its colon is no mbox line", "From  : a@b.c\nSubject: x\n\nHi\n", .from = "a@b.c", .subject = "x",
     .text = "Hi\n"},
	{"headers end without an empty line", PLAIN "Subject: x\nHello there\n", .from = "a@b.c", .subject = "x",
     .text = "Hello there\n"},
	{"field folded without a blank", PLAIN "Subject: one\ntwo\nthree\nTo: x@y\nMIME-Version: 1.0\n\nHi\n", .from = "a@b.c",
     .to = "x@y", .subject = "one two three", .text = "Hi\n", .warnings = "unfolded_header"},
	{"text that looks like fields", PLAIN "Hello\nTo: be\nor: not\n\nto be\n", .from = "a@b.c",
     .text = "Hello\nTo: be\nor: not\n\nto be\n"},
	{"text, then after its end a part's fields",
     PLAIN "Content-Type: multipart/mixed; boundary=b\n\n--b\nX: y\nHello\n--b\nContent-Type: a/b\n\n--b--\n", .from = "a@b.c",
     .text = "Hello", .parts = "attachment-1.bin a/b 0 u"},
	{"parts right behind the fields",
     PLAIN "Content-Type: multipart/mixed; boundary=b\nMIME message\n--b\nContent-Type: text/html\n\nx\n--b--\n", .from = "a@b.c",
     .text = "x", .html = "x", .warnings = "text_from_html"},
	{"attachment whose fields are folded without a blank",
     PLAIN "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: a/b;\nname=\"x.zip\"\nContent-Transfer-Encoding: "
           "base64\nContent-Disposition: attachment;\nfilename=\"x.zip\"\nContent-ID: <i>\n\neA==\n--b--\n",
     .from = "a@b.c", .parts = "x.zip a/b 1 - i", .warnings = "unfolded_header"},
	{"end inside the headers", PLAIN "Subject: x", .from = "a@b.c", .subject = "x", .text = ""},
	{"folded and odd names", "FROM : a@b.c\nsubject:\n one\n\ttwo\n\n", .from = "a@b.c", .subject = "one two",
     .text = ""},
	{"duplicates", PLAIN "From: z@z\nSubject: 1\nSubject: 2\nTo: x@y\nTo: z@y\n\n", .from = "a@b.c", .subject = "1",
     .to = "x@y | z@y", .text = "", .warnings = "conflicting_header"},
	{"the same twice is no conflict", PLAIN PLAIN "\n", .from = "a@b.c", .text = ""},

	/* transfer encodings and charsets */
	{"base64 text", PLAIN "Content-Type: text/plain; charset=koi8-r\nContent-Transfer-Encoding: base64\n\n8NLJ\n",
     .from = "a@b.c", .text = "При"},
	{"qp text, exact flowed",
     PLAIN "Content-Type: text/plain; format=flowed\nContent-Transfer-Encoding: quoted-printable\n\na =20\n b=\nc\n",
     .from = "a@b.c", .text = "a  \n bc\n"},
	{"chunked base64 of GMime's bug 150", PLAIN "Content-Transfer-Encoding: base64\n\nSGVsbG8=\nIHdvcmxk\n",
     .from = "a@b.c", .text = "Hello world", .warnings = "bad_base64"},
	{"base64 text, then a list's footer", PLAIN "Content-Transfer-Encoding: base64\n\nSGVsbG8=\n\n____\nList info\n",
     .from = "a@b.c", .text = "Hello", .warnings = "bad_base64"},
	{"base64 file, then a footer: nobody knows whose it is",
     PLAIN "Content-Type: a/b\nContent-Transfer-Encoding: base64\n\nSGVsbG8=\n\n____\nList info\n", .from = "a@b.c",
     .parts = "attachment-1.bin a/b 11 u", .warnings = "bad_base64"},
	{"base64 with junk and without its padding", PLAIN "Content-Transfer-Encoding: base64\n\nSGV*sbG8\n",
     .from = "a@b.c", .text = "Hello", .warnings = "bad_base64"},
	{"flowed text stays as it came, RFC 3676",
     PLAIN "Content-Type: text/plain; format=flowed; delsp=yes\n\n> a \n> b\n c \n-- \nd\n", .from = "a@b.c",
     .text = "> a \n> b\n c \n-- \nd\n"},
	{"UTF-16 without a mark",
     PLAIN "Content-Type: text/plain; charset=utf-16\nContent-Transfer-Encoding: base64\n\nHwQ=\n", .from = "a@b.c",
     .text = "П", .warnings = "bad_charset_data"},
	{"a surrogate alone", PLAIN "Content-Type: text/plain; charset=utf-8\n\n\xed\xa0\x80\n", .from = "a@b.c",
     .text = "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\n", .warnings = "bad_charset_data"},
	{"HZ", PLAIN "Content-Type: text/plain; charset=hz-gb-2312\n\n~{Dc:C~}\n", .from = "a@b.c", .text = "你好\n"},
	{"undeclared Cyrillic", PLAIN "\n\xcf\xf0\xe8\xe2\xe5\xf2\n", .from = "a@b.c", .text = "Привет\n",
     .warnings = "bad_charset_data"},
	{"bad qp", PLAIN "Content-Transfer-Encoding: quoted-printable\n\n=ZZ\n", .from = "a@b.c", .text = "=ZZ\n",
     .warnings = "bad_quoted_printable"},
	{"unknown encoding", PLAIN "Content-Transfer-Encoding: yenc\n\nx\n", .from = "a@b.c", .text = "x\n",
     .warnings = "unknown_encoding"},
	{"uuencoded text", PLAIN "Content-Transfer-Encoding: x-uuencode\n\nbegin 644 f\n#0V%T\n`\nend\n", .from = "a@b.c",
     .text = "Cat"},
	{"uuencoded files in the text",
     PLAIN "\nsee:\nbegin 644 a/\xd0\xaf.bin\n#0V%T\n#0V%T\n`\nend\nand\nbegin 0600 b\n#0V%T \n\nend\nbye\n",
     .from = "a@b.c", .text = "see:\nand\nbye\n",
     .parts = "Я.bin application/octet-stream 6 - | b application/octet-stream 3 -",
     .warnings = "uuencoded_attachment"},
	{"uuencoded file as the whole text", PLAIN "\nbegin 644 \n`\nend\n", .from = "a@b.c", .text = "",
     .parts = "attachment-1.bin application/octet-stream 0 u", .warnings = "uuencoded_attachment"},
	{"uuencoded, but not whole, or not quite",
     PLAIN "\nbegin 644 f\n#0V%T\n`\nbegin 644 g\n#0V%\n`\nend\nbegin now\n#0V%T\n`\nend\nbegin 644 h\n#0V%T\nend\n",
     .from = "a@b.c",
     .text = "begin 644 f\n#0V%T\n`\nbegin 644 g\n#0V%\n`\nend\nbegin now\n#0V%T\n`\nend\nbegin 644 h\n#0V%T\nend\n"},
	{"uuencoded between two parts of text",
     PLAIN
     "Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\n\ntwo\nbegin 644 f\n#0V%T\n`\nend\nthree\n--b--\n",
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
	{"a message inside, in base64: decoded",
     PLAIN "Content-Type: message/rfc822; name=a.eml\nContent-Transfer-Encoding: base64\n\nU3ViamVjdDogaW4NCg0KeA0K\n",
     .from = "a@b.c", .parts = "a.eml message/rfc822 18 -"},
	{"a message inside, in quoted-printable",
     PLAIN "Content-Type: message/rfc822\nContent-Transfer-Encoding: quoted-printable\n\nSubject: i=\nn\n\nx=3D\n",
     .from = "a@b.c", .parts = "attachment-1.eml message/rfc822 19 u"},
	{"an internationalized message inside", PLAIN "Content-Type: message/global\n\nSubject: ы\n\n", .from = "a@b.c",
     .parts = "attachment-1.eml message/global 15 u"},
	{"pieces and references are never followed",
     PLAIN
     "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/partial; id=x; number=1\n\nSubject: "
     "x\n--b\nContent-Type: message/external-body; access-type=url; url=\"http://x\"\n\nContent-Type: a/b\n--b--\n",
     .from = "a@b.c", .parts = "attachment-1.bin message/partial 10 u | attachment-2.bin message/external-body 17 u"},
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
	{"calendar alone is text", PLAIN "Content-Type: text/calendar\n\nBEGIN\n", .from = "a@b.c", .text = "BEGIN\n"},
	{"calendar with a name", PLAIN "Content-Type: text/calendar; name=i.ics\n\nBEGIN\n", .from = "a@b.c",
     .parts = "i.ics text/calendar 7 -"},
	{"S/MIME is not opened",
     PLAIN
     "Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\nContent-Transfer-Encoding: "
     "base64\n\nAAAA\n",
     .from = "a@b.c", .parts = "smime.p7m application/pkcs7-mime 3 -"},
	{"encrypted",
     PLAIN "Content-Type: multipart/encrypted; boundary=m\n\n--m\nContent-Type: application/pgp-encrypted\n\nVersion: "
           "1\n--m\nContent-Type: application/octet-stream\n\nX\n--m--\n",
     .from = "a@b.c",
     .parts = "attachment-1.txt application/pgp-encrypted 10 u | attachment-2.bin application/octet-stream 1 u"},
	{"same name twice: numbers tell them apart",
     PLAIN "Content-Type: multipart/mixed; boundary=m\n\n--m\nContent-Type: a/b; name=x\n\n1\n--m\nContent-Type: a/b; "
           "name=x\n\n22\n--m--\n",
     .from = "a@b.c", .parts = "x a/b 1 - | x a/b 2 -"},
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
	{"two boundaries: the first",
     PLAIN "Content-Type: multipart/mixed; boundary=b; boundary=c\n\n--b\n\nx\n--c\n\ny\n--b--\n", .from = "a@b.c",
     .text = "x\n--c\n\ny", .warnings = "conflicting_parameter"},
	{"quoted boundary with specials, RFC 2046 5.1.1",
     PLAIN "Content-Type: multipart/mixed; boundary=\"gc0pJq0M:08jU534c0p =?()+_,-./\"\n\n--gc0pJq0M:08jU534c0p "
           "=?()+_,-./\n\nx\n--gc0pJq0M:08jU534c0p =?()+_,-./--\n",
     .from = "a@b.c", .text = "x"},
	{"two dispositions", PLAIN "Content-Disposition: inline\nContent-Disposition: attachment\n\nx\n", .from = "a@b.c",
     .text = "x\n", .warnings = "conflicting_header"},
	{"two encodings", PLAIN "Content-Transfer-Encoding: base64\nContent-Transfer-Encoding: 7bit\n\neA==\n",
     .from = "a@b.c", .text = "x", .warnings = "conflicting_header"},
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
};

static void test_rows(void **state) {
	check_rows(rows, array_len(rows));
}

static void test_truncations(void **state) {
	check_truncations(rows, array_len(rows));
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

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),  cmocka_unit_test(test_truncations), cmocka_unit_test(test_octets),
		cmocka_unit_test(test_exact), cmocka_unit_test(test_html),
	};
	return cmocka_run_group_tests(tests, setup, NULL);
}
