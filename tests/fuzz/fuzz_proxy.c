/* Any octets as a PROXY header: whole and octet by octet come to the same, nothing beyond the header is taken. */
#include "common/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void require(bool ok) {
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
	struct proxy_header whole = {0}, trickled = {0};
	size_t used, taken = 0, step;
	enum proxy_result r = proxy_feed(&whole, p, n, &used), t = PROXY_MORE;
	require(used <= n && (r != PROXY_MORE || used == n));
	for (size_t i = 0; i < n && t == PROXY_MORE; i++) {
		t = proxy_feed(&trickled, p + i, 1, &step);
		require(step == 1 || t == PROXY_BAD);
		taken += step;
	}
	require(t == r && (r == PROXY_BAD || taken == used));
	if (r == PROXY_CLIENT) {
		require(whole.source.family != NETADDR_NONE && whole.destination.family != NETADDR_NONE);
		require(netaddr_equal(&whole.source, &trickled.source) && whole.source_port == trickled.source_port);
		require(netaddr_equal(&whole.destination, &trickled.destination) && whole.destination_port == trickled.destination_port);
	}
	return 0;
}
