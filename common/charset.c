/* Charsets of mail to UTF-8. The labels are a closed list of ours, in the spirit of the WHATWG Encoding Standard
 * (ISO-8859-1 is windows-1252, GB2312 is GB18030); a label never reaches iconv_open() itself, since it could carry
 * options ("//IGNORE") or name a converter nobody should run. Nothing is ever converted to anything but UTF-8.
 *
 * Invariant: descriptors are opened once and kept for the life of the process. */
#include "common/text.h"

#include <iconv.h>

#define LABEL_MAX 40
#define RUN 1024
#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* clang-format off */
enum charset {
	CS_UTF_8, CS_US_ASCII, CS_CP1252, CS_UTF_16, CS_UTF_16LE, CS_UTF_16BE, CS_UTF_7, CS_ISO_8859_2, CS_ISO_8859_3,
	CS_ISO_8859_4, CS_ISO_8859_5, CS_ISO_8859_6, CS_ISO_8859_7, CS_ISO_8859_8, CS_CP1254, CS_ISO_8859_10,
	CS_CP874, CS_ISO_8859_13, CS_ISO_8859_14, CS_ISO_8859_15, CS_ISO_8859_16, CS_KOI8_R, CS_KOI8_U, CS_MACINTOSH,
	CS_MAC_CYRILLIC, CS_MAC_UK, CS_MAC_CENTRALEUROPE, CS_CP1250, CS_CP1251, CS_CP1253, CS_CP1255, CS_CP1256,
	CS_CP1257, CS_CP1258, CS_GB18030, CS_BIG5_HKSCS, CS_EUC_TW, CS_EUC_JP_MS, CS_ISO_2022_JP_3, CS_ISO_2022_JP_2,
	CS_CP932, CS_CP949, CS_ISO_2022_KR, CS_JOHAB, CS_ISO_2022_CN, CS_CP437, CS_CP737, CS_CP775, CS_CP850,
	CS_CP852, CS_CP855, CS_CP857, CS_CP858, CS_CP860, CS_CP861, CS_CP862, CS_CP863, CS_CP865, CS_IBM866, CS_CP869,
	CS_CP1125, CS_VISCII, CS_TCVN, CS_ARMSCII_8, CS_GEORGIAN_PS,
	CS_HZ, /* ours: no converter has it */
	CS_COUNT,
};

static const char *const iconv_names[CS_COUNT] = {
	[CS_UTF_8] = "UTF-8", [CS_US_ASCII] = "US-ASCII", [CS_CP1252] = "CP1252", [CS_UTF_16] = "UTF-16",
	[CS_UTF_16LE] = "UTF-16LE", [CS_UTF_16BE] = "UTF-16BE", [CS_UTF_7] = "UTF-7", [CS_ISO_8859_2] = "ISO-8859-2",
	[CS_ISO_8859_3] = "ISO-8859-3", [CS_ISO_8859_4] = "ISO-8859-4", [CS_ISO_8859_5] = "ISO-8859-5",
	[CS_ISO_8859_6] = "ISO-8859-6", [CS_ISO_8859_7] = "ISO-8859-7", [CS_ISO_8859_8] = "ISO-8859-8",
	[CS_CP1254] = "CP1254", [CS_ISO_8859_10] = "ISO-8859-10", [CS_CP874] = "CP874",
	[CS_ISO_8859_13] = "ISO-8859-13", [CS_ISO_8859_14] = "ISO-8859-14", [CS_ISO_8859_15] = "ISO-8859-15",
	[CS_ISO_8859_16] = "ISO-8859-16", [CS_KOI8_R] = "KOI8-R", [CS_KOI8_U] = "KOI8-U",
	[CS_MACINTOSH] = "MACINTOSH", [CS_MAC_CYRILLIC] = "MAC-CYRILLIC", [CS_MAC_UK] = "MAC-UK",
	[CS_MAC_CENTRALEUROPE] = "MAC-CENTRALEUROPE", [CS_CP1250] = "CP1250", [CS_CP1251] = "CP1251",
	[CS_CP1253] = "CP1253", [CS_CP1255] = "CP1255", [CS_CP1256] = "CP1256", [CS_CP1257] = "CP1257",
	[CS_CP1258] = "CP1258", [CS_GB18030] = "GB18030", [CS_BIG5_HKSCS] = "BIG5-HKSCS", [CS_EUC_TW] = "EUC-TW",
	[CS_EUC_JP_MS] = "EUC-JP-MS", [CS_ISO_2022_JP_3] = "ISO-2022-JP-3", [CS_ISO_2022_JP_2] = "ISO-2022-JP-2",
	[CS_CP932] = "CP932", [CS_CP949] = "CP949", [CS_ISO_2022_KR] = "ISO-2022-KR", [CS_JOHAB] = "JOHAB",
	[CS_ISO_2022_CN] = "ISO-2022-CN", [CS_CP437] = "CP437", [CS_CP737] = "CP737", [CS_CP775] = "CP775",
	[CS_CP850] = "CP850", [CS_CP852] = "CP852", [CS_CP855] = "CP855", [CS_CP857] = "CP857", [CS_CP858] = "CP858",
	[CS_CP860] = "CP860", [CS_CP861] = "CP861", [CS_CP862] = "CP862", [CS_CP863] = "CP863", [CS_CP865] = "CP865",
	[CS_IBM866] = "IBM866", [CS_CP869] = "CP869", [CS_CP1125] = "CP1125", [CS_VISCII] = "VISCII",
	[CS_TCVN] = "TCVN", [CS_ARMSCII_8] = "ARMSCII-8", [CS_GEORGIAN_PS] = "GEORGIAN-PS",
};

/* Sorted, lower case. */
static const struct label {
	const char *label;
	enum charset charset;
} labels[] = {
	{"1251", CS_CP1251}, {"1252", CS_CP1252}, {"437", CS_CP437}, {"646", CS_US_ASCII}, {"7bit", CS_US_ASCII}, {"850", CS_CP850},
	{"852", CS_CP852}, {"866", CS_IBM866}, {"8859-1", CS_CP1252}, {"8bit", CS_US_ASCII}, {"ansi", CS_CP1252},
	{"ansi_x3.4-1968", CS_US_ASCII}, {"ansi_x3.4-1986", CS_US_ASCII}, {"arabic", CS_ISO_8859_6},
	{"armscii-8", CS_ARMSCII_8}, {"ascii", CS_US_ASCII}, {"asmo-708", CS_ISO_8859_6}, {"big5", CS_BIG5_HKSCS},
	{"big5-hkscs", CS_BIG5_HKSCS}, {"big5hkscs", CS_BIG5_HKSCS}, {"chinese", CS_GB18030},
	{"cn-big5", CS_BIG5_HKSCS}, {"cp-1250", CS_CP1250}, {"cp-1251", CS_CP1251}, {"cp-1252", CS_CP1252},
	{"cp-1253", CS_CP1253}, {"cp-1254", CS_CP1254}, {"cp-1255", CS_CP1255}, {"cp-1256", CS_CP1256},
	{"cp-1257", CS_CP1257}, {"cp-1258", CS_CP1258}, {"cp-437", CS_CP437}, {"cp-850", CS_CP850},
	{"cp-852", CS_CP852}, {"cp-866", CS_IBM866}, {"cp-874", CS_CP874}, {"cp-932", CS_CP932},
	{"cp-936", CS_GB18030}, {"cp-949", CS_CP949}, {"cp-950", CS_BIG5_HKSCS}, {"cp1125", CS_CP1125},
	{"cp1250", CS_CP1250}, {"cp1251", CS_CP1251}, {"cp1252", CS_CP1252}, {"cp1253", CS_CP1253},
	{"cp1254", CS_CP1254}, {"cp1255", CS_CP1255}, {"cp1256", CS_CP1256}, {"cp1257", CS_CP1257},
	{"cp1258", CS_CP1258}, {"cp1361", CS_JOHAB}, {"cp367", CS_US_ASCII}, {"cp437", CS_CP437},
	{"cp50220", CS_ISO_2022_JP_3}, {"cp50221", CS_ISO_2022_JP_3}, {"cp50222", CS_ISO_2022_JP_3},
	{"cp51932", CS_EUC_JP_MS}, {"cp65001", CS_UTF_8}, {"cp737", CS_CP737}, {"cp775", CS_CP775},
	{"cp819", CS_CP1252}, {"cp850", CS_CP850}, {"cp852", CS_CP852}, {"cp855", CS_CP855}, {"cp857", CS_CP857},
	{"cp858", CS_CP858}, {"cp860", CS_CP860}, {"cp861", CS_CP861}, {"cp862", CS_CP862}, {"cp863", CS_CP863},
	{"cp865", CS_CP865}, {"cp866", CS_IBM866}, {"cp869", CS_CP869}, {"cp874", CS_CP874}, {"cp932", CS_CP932},
	{"cp936", CS_GB18030}, {"cp949", CS_CP949}, {"cp950", CS_BIG5_HKSCS}, {"csbig5", CS_BIG5_HKSCS},
	{"cseuckr", CS_CP949}, {"cseucpkdfmtjapanese", CS_EUC_JP_MS}, {"csgb2312", CS_GB18030},
	{"csibm866", CS_IBM866}, {"csiso2022jp", CS_ISO_2022_JP_3}, {"csiso2022kr", CS_ISO_2022_KR},
	{"csiso58gb231280", CS_GB18030}, {"csiso88598e", CS_ISO_8859_8}, {"csiso88598i", CS_ISO_8859_8},
	{"csisolatin1", CS_CP1252}, {"csisolatin2", CS_ISO_8859_2}, {"csisolatin3", CS_ISO_8859_3},
	{"csisolatin4", CS_ISO_8859_4}, {"csisolatin5", CS_CP1254}, {"csisolatin6", CS_ISO_8859_10},
	{"csisolatin9", CS_ISO_8859_15}, {"csisolatinarabic", CS_ISO_8859_6}, {"csisolatincyrillic", CS_ISO_8859_5},
	{"csisolatingreek", CS_ISO_8859_7}, {"csisolatinhebrew", CS_ISO_8859_8}, {"csko18r", CS_KOI8_R},
	{"cskoi8r", CS_KOI8_R}, {"csksc56011987", CS_CP949}, {"csmacintosh", CS_MACINTOSH},
	{"cspc8codepage437", CS_CP437}, {"csshiftjis", CS_CP932}, {"csunicode", CS_UTF_16},
	{"csunicode11utf7", CS_UTF_7}, {"cswindows31j", CS_CP932}, {"cyrillic", CS_ISO_8859_5},
	{"default", CS_US_ASCII}, {"dos-862", CS_CP862}, {"dos-874", CS_CP874}, {"ecma-114", CS_ISO_8859_6},
	{"ecma-118", CS_ISO_8859_7}, {"elot_928", CS_ISO_8859_7}, {"euc-cn", CS_GB18030}, {"euc-jp", CS_EUC_JP_MS},
	{"euc-jp-ms", CS_EUC_JP_MS}, {"euc-kr", CS_CP949}, {"euc-tw", CS_EUC_TW}, {"euccn", CS_GB18030},
	{"eucjp", CS_EUC_JP_MS}, {"eucjp-ms", CS_EUC_JP_MS}, {"eucjp-win", CS_EUC_JP_MS}, {"euckr", CS_CP949},
	{"gb18030", CS_GB18030}, {"gb2312", CS_GB18030}, {"gb2312-80", CS_GB18030}, {"gb_2312", CS_GB18030},
	{"gb_2312-80", CS_GB18030}, {"gbk", CS_GB18030}, {"georgian-ps", CS_GEORGIAN_PS}, {"greek", CS_ISO_8859_7},
	{"greek8", CS_ISO_8859_7}, {"hebrew", CS_ISO_8859_8}, {"hz", CS_HZ}, {"hz-gb-2312", CS_HZ},
	{"ibm1125", CS_CP1125}, {"ibm437", CS_CP437},
	{"ibm737", CS_CP737}, {"ibm775", CS_CP775}, {"ibm819", CS_CP1252}, {"ibm850", CS_CP850}, {"ibm852", CS_CP852},
	{"ibm855", CS_CP855}, {"ibm857", CS_CP857}, {"ibm858", CS_CP858}, {"ibm860", CS_CP860}, {"ibm861", CS_CP861},
	{"ibm862", CS_CP862}, {"ibm863", CS_CP863}, {"ibm865", CS_CP865}, {"ibm866", CS_IBM866}, {"ibm869", CS_CP869},
	{"iso-10646-ucs-2", CS_UTF_16}, {"iso-2022-cn", CS_ISO_2022_CN}, {"iso-2022-jp", CS_ISO_2022_JP_3},
	{"iso-2022-jp-1", CS_ISO_2022_JP_3}, {"iso-2022-jp-2", CS_ISO_2022_JP_2}, {"iso-2022-jp-3", CS_ISO_2022_JP_3},
	{"iso-2022-jp-ms", CS_ISO_2022_JP_3}, {"iso-2022-kr", CS_ISO_2022_KR}, {"iso-8859-1", CS_CP1252},
	{"iso-8859-10", CS_ISO_8859_10}, {"iso-8859-11", CS_CP874}, {"iso-8859-13", CS_ISO_8859_13},
	{"iso-8859-14", CS_ISO_8859_14}, {"iso-8859-15", CS_ISO_8859_15}, {"iso-8859-16", CS_ISO_8859_16},
	{"iso-8859-2", CS_ISO_8859_2}, {"iso-8859-3", CS_ISO_8859_3}, {"iso-8859-4", CS_ISO_8859_4},
	{"iso-8859-5", CS_ISO_8859_5}, {"iso-8859-6", CS_ISO_8859_6}, {"iso-8859-6-e", CS_ISO_8859_6},
	{"iso-8859-6-i", CS_ISO_8859_6}, {"iso-8859-7", CS_ISO_8859_7}, {"iso-8859-8", CS_ISO_8859_8},
	{"iso-8859-8-e", CS_ISO_8859_8}, {"iso-8859-8-i", CS_ISO_8859_8}, {"iso-8859-9", CS_CP1254},
	{"iso-ir-100", CS_CP1252}, {"iso-ir-101", CS_ISO_8859_2}, {"iso-ir-109", CS_ISO_8859_3},
	{"iso-ir-110", CS_ISO_8859_4}, {"iso-ir-126", CS_ISO_8859_7}, {"iso-ir-127", CS_ISO_8859_6},
	{"iso-ir-138", CS_ISO_8859_8}, {"iso-ir-144", CS_ISO_8859_5}, {"iso-ir-148", CS_CP1254},
	{"iso-ir-149", CS_CP949}, {"iso-ir-157", CS_ISO_8859_10}, {"iso-ir-58", CS_GB18030},
	{"iso2022cn", CS_ISO_2022_CN}, {"iso2022jp", CS_ISO_2022_JP_3}, {"iso2022kr", CS_ISO_2022_KR},
	{"iso646-us", CS_US_ASCII}, {"iso8859-1", CS_CP1252}, {"iso8859-10", CS_ISO_8859_10},
	{"iso8859-11", CS_CP874}, {"iso8859-13", CS_ISO_8859_13}, {"iso8859-14", CS_ISO_8859_14},
	{"iso8859-15", CS_ISO_8859_15}, {"iso8859-16", CS_ISO_8859_16}, {"iso8859-2", CS_ISO_8859_2},
	{"iso8859-3", CS_ISO_8859_3}, {"iso8859-4", CS_ISO_8859_4}, {"iso8859-5", CS_ISO_8859_5},
	{"iso8859-6", CS_ISO_8859_6}, {"iso8859-7", CS_ISO_8859_7}, {"iso8859-8", CS_ISO_8859_8},
	{"iso8859-9", CS_CP1254}, {"iso88591", CS_CP1252}, {"iso885915", CS_ISO_8859_15}, {"iso88592", CS_ISO_8859_2},
	{"iso88595", CS_ISO_8859_5}, {"iso88597", CS_ISO_8859_7}, {"iso88599", CS_CP1254},
	{"iso_646.irv:1991", CS_US_ASCII}, {"iso_8859-1", CS_CP1252}, {"iso_8859-15", CS_ISO_8859_15},
	{"iso_8859-1:1987", CS_CP1252}, {"iso_8859-2", CS_ISO_8859_2}, {"iso_8859-2:1987", CS_ISO_8859_2},
	{"iso_8859-3", CS_ISO_8859_3}, {"iso_8859-4", CS_ISO_8859_4}, {"iso_8859-5", CS_ISO_8859_5},
	{"iso_8859-6", CS_ISO_8859_6}, {"iso_8859-7", CS_ISO_8859_7}, {"iso_8859-8", CS_ISO_8859_8},
	{"iso_8859-9", CS_CP1254}, {"johab", CS_JOHAB}, {"koi", CS_KOI8_R}, {"koi8", CS_KOI8_R},
	{"koi8-r", CS_KOI8_R}, {"koi8-ru", CS_KOI8_U}, {"koi8-u", CS_KOI8_U}, {"koi8_r", CS_KOI8_R},
	{"koi8r", CS_KOI8_R}, {"koi8u", CS_KOI8_U}, {"korean", CS_CP949}, {"ks_c_5601-1987", CS_CP949},
	{"ks_c_5601-1989", CS_CP949}, {"ksc5601", CS_CP949}, {"ksc_5601", CS_CP949}, {"l1", CS_CP1252},
	{"l10", CS_ISO_8859_16}, {"l2", CS_ISO_8859_2}, {"l3", CS_ISO_8859_3}, {"l4", CS_ISO_8859_4},
	{"l5", CS_CP1254}, {"l6", CS_ISO_8859_10}, {"l7", CS_ISO_8859_13}, {"l8", CS_ISO_8859_14},
	{"l9", CS_ISO_8859_15}, {"latin-1", CS_CP1252}, {"latin-9", CS_ISO_8859_15}, {"latin1", CS_CP1252},
	{"latin10", CS_ISO_8859_16}, {"latin2", CS_ISO_8859_2}, {"latin3", CS_ISO_8859_3}, {"latin4", CS_ISO_8859_4},
	{"latin5", CS_CP1254}, {"latin6", CS_ISO_8859_10}, {"latin7", CS_ISO_8859_13}, {"latin8", CS_ISO_8859_14},
	{"latin9", CS_ISO_8859_15}, {"logical", CS_ISO_8859_8}, {"mac", CS_MACINTOSH},
	{"mac-centraleurope", CS_MAC_CENTRALEUROPE}, {"mac-cyrillic", CS_MAC_CYRILLIC}, {"mac-uk", CS_MAC_UK},
	{"mac-ukraine", CS_MAC_UK}, {"maccyrillic", CS_MAC_CYRILLIC}, {"macintosh", CS_MACINTOSH},
	{"macroman", CS_MACINTOSH}, {"ms1361", CS_JOHAB}, {"ms932", CS_CP932}, {"ms936", CS_GB18030},
	{"ms949", CS_CP949}, {"ms_kanji", CS_CP932}, {"none", CS_US_ASCII}, {"shift-jis", CS_CP932},
	{"shift_jis", CS_CP932}, {"sjis", CS_CP932}, {"sun_eu_greek", CS_ISO_8859_7}, {"tcvn", CS_TCVN},
	{"tcvn-5712", CS_TCVN}, {"tcvn5712", CS_TCVN}, {"tis-620", CS_CP874}, {"tis620", CS_CP874},
	{"tis620-0", CS_CP874}, {"tis620.2533-1", CS_CP874}, {"ucs-2", CS_UTF_16}, {"ucs-2be", CS_UTF_16BE},
	{"ucs-2le", CS_UTF_16LE}, {"ucs2", CS_UTF_16}, {"uhc", CS_CP949}, {"unicode", CS_UTF_16},
	{"unicode-1-1-utf-7", CS_UTF_7}, {"unicode-1-1-utf-8", CS_UTF_8}, {"unicodebig", CS_UTF_16BE},
	{"unicodefffe", CS_UTF_16BE}, {"unicodelittle", CS_UTF_16LE}, {"unknown", CS_US_ASCII},
	{"unknown-8bit", CS_US_ASCII}, {"us", CS_US_ASCII}, {"us-ascii", CS_US_ASCII}, {"utf-16", CS_UTF_16}, {"utf-16be", CS_UTF_16BE},
	{"utf-16le", CS_UTF_16LE}, {"utf-7", CS_UTF_7}, {"utf-8", CS_UTF_8}, {"utf16", CS_UTF_16},
	{"utf16be", CS_UTF_16BE}, {"utf16le", CS_UTF_16LE}, {"utf7", CS_UTF_7}, {"utf8", CS_UTF_8},
	{"utf8mb4", CS_UTF_8}, {"utf_8", CS_UTF_8}, {"viscii", CS_VISCII}, {"visual", CS_ISO_8859_8},
	{"win-1251", CS_CP1251}, {"win1250", CS_CP1250}, {"win1251", CS_CP1251}, {"win1252", CS_CP1252},
	{"windows-1250", CS_CP1250}, {"windows-1251", CS_CP1251},
	{"windows-1252", CS_CP1252}, {"windows-1253", CS_CP1253}, {"windows-1254", CS_CP1254},
	{"windows-1255", CS_CP1255}, {"windows-1256", CS_CP1256}, {"windows-1257", CS_CP1257},
	{"windows-1258", CS_CP1258}, {"windows-31j", CS_CP932}, {"windows-874", CS_CP874}, {"windows-932", CS_CP932},
	{"windows-936", CS_GB18030}, {"windows-949", CS_CP949}, {"windows-950", CS_BIG5_HKSCS},
	{"windows1251", CS_CP1251}, {"x-ansi", CS_CP1252}, {"x-big5", CS_BIG5_HKSCS}, {"x-cp1250", CS_CP1250}, {"x-cp1251", CS_CP1251},
	{"x-cp1252", CS_CP1252}, {"x-cp1253", CS_CP1253}, {"x-cp1254", CS_CP1254}, {"x-cp1255", CS_CP1255},
	{"x-cp1256", CS_CP1256}, {"x-cp1257", CS_CP1257}, {"x-cp1258", CS_CP1258}, {"x-cp874", CS_CP874},
	{"x-euc-cn", CS_GB18030}, {"x-euc-jp", CS_EUC_JP_MS}, {"x-euc-kr", CS_CP949}, {"x-euc-tw", CS_EUC_TW},
	{"x-gbk", CS_GB18030}, {"x-mac-ce", CS_MAC_CENTRALEUROPE}, {"x-mac-centraleurroman", CS_MAC_CENTRALEUROPE},
	{"x-mac-cyrillic", CS_MAC_CYRILLIC}, {"x-mac-roman", CS_MACINTOSH}, {"x-mac-ukrainian", CS_MAC_UK},
	{"x-maccyrillic", CS_MAC_CYRILLIC}, {"x-macroman", CS_MACINTOSH}, {"x-sjis", CS_CP932},
	{"x-unicode-2-0-utf-7", CS_UTF_7}, {"x-unicode20utf8", CS_UTF_8}, {"x-unknown", CS_US_ASCII},
	{"x-user-defined", CS_US_ASCII}, {"x-utf-8", CS_UTF_8}, {"x-viet-tcvn5712", CS_TCVN}, {"x-windows-949", CS_CP949},
	{"x-x-big5", CS_BIG5_HKSCS},
};
/* clang-format on */

static int label_compare(const void *key, const void *row) {
	return strcmp(key, ((const struct label *)row)->label);
}

/* By their letters and digits: "ISO8859_15" is "iso-8859-15". */
static int loose_compare(const char *a, const char *b) {
	for (;; a++, b++) {
		a += strspn(a, "-_. ");
		b += strspn(b, "-_. ");
		if (*a != *b || !*a)
			return (uint8_t)*a - (uint8_t)*b;
	}
}

static int loose_compare_key(const void *key, const void *row) {
	return loose_compare(key, (*(const struct label *const *)row)->label);
}

static int loose_compare_rows(const void *a, const void *b) {
	return loose_compare((*(const struct label *const *)a)->label, (*(const struct label *const *)b)->label);
}

static const struct label *find_loosely(char *key) {
	static const struct label *sorted[array_len(labels)];
	if (!sorted[0]) {
		for (size_t i = 0; i < array_len(labels); i++)
			sorted[i] = &labels[i];
		qsort(sorted, array_len(sorted), sizeof sorted[0], loose_compare_rows);
	}
	key[strcspn(key, ":")] = '\0'; /* "iso_8859-3:1988" */
	const struct label *const *found = bsearch(key, sorted, array_len(sorted), sizeof sorted[0], loose_compare_key);
	return found ? *found : NULL;
}

/* CS_COUNT: not one of ours. */
static enum charset charset_find(const char *p, size_t n) {
	char key[LABEL_MAX + 1];
	while (n > 0 && (*p == ' ' || *p == '\t' || *p == '"' || *p == '\''))
		p++, n--;
	while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\t' || p[n - 1] == '"' || p[n - 1] == '\''))
		n--;
	if (n == 0 || n > LABEL_MAX)
		return CS_COUNT;
	for (size_t i = 0; i < n; i++)
		key[i] = (char)(p[i] >= 'A' && p[i] <= 'Z' ? p[i] + ('a' - 'A') : p[i]);
	key[n] = '\0';
	const struct label *l = bsearch(key, labels, array_len(labels), sizeof labels[0], label_compare);
	if (!l)
		l = find_loosely(key);
	return l ? l->charset : CS_COUNT;
}

const char *text_charset_iconv(const char *label, size_t n) {
	enum charset cs = charset_find(label, n);
	return cs == CS_COUNT ? NULL : iconv_names[cs];
}

#define NOT_OPENED NULL
static iconv_t descriptors[CS_COUNT];

static iconv_t charset_open(enum charset cs) {
	if (!iconv_names[cs])
		return (iconv_t)-1;
	if (descriptors[cs] == NOT_OPENED)
		descriptors[cs] = iconv_open("UTF-8", iconv_names[cs]);
	return descriptors[cs];
}

void text_charsets_load(void) {
	for (int cs = 0; cs < CS_COUNT; cs++)
		charset_open((enum charset)cs);
}

/* windows-1252 as browsers have it: what it leaves undefined is the C1 control of that number. */
static int append_1252(struct buf *out, const char *p, size_t n, bool strip_controls) {
	static const uint16_t high[32] = {
		0x20ac, 0x81,   0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160,
		0x2039, 0x0152, 0x8d,   0x017d, 0x8f,   0x90,   0x2018, 0x2019, 0x201c, 0x201d, 0x2022,
		0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0x9d,   0x017e, 0x0178,
	};
	size_t run = 0;
	for (size_t i = 0; i < n; i++) {
		uint8_t c = (uint8_t)p[i];
		if (c < 0x80)
			continue;
		int r = text_append_clean(out, p + run, i - run, strip_controls);
		if (r < 0)
			return r;
		unsigned u = c < 0xa0 ? high[c - 0x80] : c;
		char seq[3] = {(char)(0xe0 | u >> 12), (char)(0x80 | (u >> 6 & 0x3f)), (char)(0x80 | (u & 0x3f))};
		if (u < 0x800)
			seq[1] = (char)(0xc0 | u >> 6);
		r = u < 0x800 ? buf_append(out, seq + 1, 2) : buf_append(out, seq, 3);
		if (r < 0)
			return r;
		run = i + 1;
	}
	return text_append_clean(out, p + run, n - run, strip_controls);
}

/* Octets of the charset's code unit: what is skipped when one does not convert. */
static size_t charset_unit(enum charset cs) {
	return cs == CS_UTF_16LE || cs == CS_UTF_16BE ? 2 : 1;
}

/* Output of iconv on its way to the buf. */
struct piece {
	char text[4096];
	char *end;
};

/* A CR at the end waits for what follows it, which decides whether it stays. */
static int flush_piece(struct buf *out, struct piece *p, bool last, bool strip_controls) {
	bool hold = !last && p->end > p->text && p->end[-1] == '\r';
	int r = text_append_clean(out, p->text, (size_t)(p->end - p->text) - hold, strip_controls);
	p->text[0] = '\r';
	p->end = p->text + hold;
	return r;
}

/* Through iconv, a run of the input at a time, so that one bad octet after the other costs no more than good ones. */
static int append_iconv(struct buf *out, enum charset cs, char *in, size_t n, bool strip_controls, bool *bad) {
	iconv_t cd = charset_open(cs);
	struct piece p = {.end = p.text};
	int r = 0;
	iconv(cd, NULL, NULL, NULL, NULL);
	while (n > 0 && r == 0) {
		size_t run = min_of(n, (size_t)RUN), left = run;
		size_t room = sizeof p.text - sizeof REPLACEMENT - (size_t)(p.end - p.text);
		size_t got = iconv(cd, &in, &left, &p.end, &room);
		int error = got == (size_t)-1 ? errno : 0;
		n -= run - left;
		/* A character that is cut by the end of the run comes whole with the next one. */
		if (error == EILSEQ || (error == EINVAL && (left == n || left == run))) {
			size_t skip = error == EINVAL ? left : min_of(charset_unit(cs), n);
			memcpy(p.end, REPLACEMENT, sizeof REPLACEMENT - 1);
			p.end += sizeof REPLACEMENT - 1;
			in += skip;
			n -= skip;
			*bad = true;
		}
		if (error == E2BIG || p.end > p.text + sizeof p.text / 2)
			r = flush_piece(out, &p, false, strip_controls);
	}
	if (r == 0)
		r = flush_piece(out, &p, false, strip_controls);
	if (r == 0) {
		size_t room = sizeof p.text - 1;
		iconv(cd, NULL, NULL, &p.end, &room); /* what a stateful converter still holds */
		r = flush_piece(out, &p, true, strip_controls);
	}
	return r;
}

/* Of a byte order mark at the start; CS_COUNT: there is none. */
static enum charset utf16_mark(const char *p, size_t n) {
	if (n >= 2 && (uint8_t)p[0] == 0xfe && (uint8_t)p[1] == 0xff)
		return CS_UTF_16BE;
	return n >= 2 && (uint8_t)p[0] == 0xff && (uint8_t)p[1] == 0xfe ? CS_UTF_16LE : CS_COUNT;
}

/* CS_UTF_16: the mark decides; without one, what Windows writes. */
static int append_utf16(struct buf *out, enum charset cs, const char *p, size_t n, bool strip_controls, bool *bad) {
	enum charset mark = utf16_mark(p, n);
	if (cs == CS_UTF_16) {
		*bad = mark == CS_COUNT;
		cs = mark == CS_COUNT ? CS_UTF_16LE : mark;
	}
	size_t skip = cs == mark ? 2 : 0;
	return append_iconv(out, cs, (char *)(uintptr_t)p + skip, n - skip, strip_controls, bad);
}

/* HZ (RFC 1843): GB 2312 in seven bits, between "~{" and "~}", to the same in eight. "~~" is '~', "~" before a line
 * end joins two lines, and a line end leaves GB. Never longer than what came; returns its length. */
static size_t hz_to_gb(const char *p, size_t n, char *out) {
	size_t len = 0;
	bool gb = false;
	for (size_t i = 0; i < n; i++) {
		char c = p[i], next = i + 1 < n ? p[i + 1] : '\0';
		if (c == '~' && (next == '{' || next == '}')) {
			gb = next == '{';
			i++;
		} else if (c == '~' && !gb && next == '~') {
			out[len++] = p[i++];
		} else if (c == '~' && !gb && (next == '\n' || next == '\r')) {
			i += next == '\r' && i + 2 < n && p[i + 2] == '\n' ? 2 : 1;
		} else if (gb && c > ' ' && next > ' ') {
			out[len++] = (char)(c | 0x80);
			out[len++] = (char)(next | 0x80);
			i++;
		} else {
			gb = gb && c != '\n';
			out[len++] = c;
		}
	}
	return len;
}

static int append_hz(struct buf *out, const char *p, size_t n, bool strip_controls, bool *bad) {
	cleanup(freep) char *gb = xmalloc(n);
	return append_iconv(out, CS_GB18030, gb, hz_to_gb(p, n, gb), strip_controls, bad);
}

static bool has_8bit(const char *p, size_t n) {
	while (n > 0 && !(p[n - 1] & 0x80))
		n--;
	return n > 0;
}

/* What the charset does not have and UTF-8 does is UTF-8 that somebody labelled wrongly. */
static void append_declared(struct buf *out, enum charset cs, const char *p, size_t n, bool strip_controls, bool *bad) {
	size_t before = out->len;
	append_iconv(out, cs, (char *)(uintptr_t)p, n, strip_controls, bad);
	if (!*bad || !has_8bit(p, n) || !text_utf8_valid(p, n))
		return;
	buf_cut(out, before);
	text_append_clean(out, p, n, strip_controls);
}

bool text_append_charset_check(struct buf *out, const char *charset, const char *p, size_t n, bool strip_controls,
                               bool *ret_bad) {
	enum charset cs = charset ? charset_find(charset, strlen(charset)) : CS_COUNT;
	bool known = cs != CS_COUNT, bad = false;
	if (n == 0) {
		*ret_bad = false;
		return known;
	}
	if (cs > CS_UTF_16 && cs < CS_HZ && charset_open(cs) == (iconv_t)-1)
		known = false, cs = CS_COUNT; /* this system has no such converter */
	switch (cs) {
	case CS_UTF_8:
		if (n >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0) /* a byte order mark says nothing here */
			p += 3, n -= 3;
		bad = !text_utf8_valid(p, n);
		text_append_clean(out, p, n, strip_controls);
		break;
	case CS_CP1252:
		append_1252(out, p, n, strip_controls);
		break;
	case CS_UTF_16:
	case CS_UTF_16LE:
	case CS_UTF_16BE:
		append_utf16(out, cs, p, n, strip_controls, &bad);
		break;
	case CS_US_ASCII:
	case CS_COUNT:
		if (text_utf8_valid(p, n)) {
			text_append_clean(out, p, n, strip_controls);
		} else if (n % 2 == 0 && utf16_mark(p, n) != CS_COUNT) {
			append_utf16(out, CS_UTF_16, p, n, strip_controls, &bad);
			bad = true;
		} else {
			bad = true;
			cs = charset_find(text_charset_guess(p, n), sizeof "windows-125x" - 1);
			if (cs == CS_CP1252)
				append_1252(out, p, n, strip_controls);
			else
				append_iconv(out, cs, (char *)(uintptr_t)p, n, strip_controls, &bad);
		}
		break;
	case CS_HZ:
		append_hz(out, p, n, strip_controls, &bad);
		break;
	default:
		append_declared(out, cs, p, n, strip_controls, &bad);
	}
	*ret_bad = bad;
	return known;
}

bool text_append_charset(struct buf *out, const char *charset, const char *p, size_t n, bool strip_controls) {
	bool bad;
	return text_append_charset_check(out, charset, p, n, strip_controls, &bad);
}
