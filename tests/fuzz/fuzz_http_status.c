/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fuzz target: the status line of a web server; what was said stays said as more bytes come. */
#include "fuzz.h"
#include "lib/http_status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int before = HTTP_STATUS_MORE;

	for (size_t len = 0; len <= size && len <= HTTP_STATUS_LEN + 2; len++) {
		uint8_t *buf = fuzz_copy(data, len, len);
		int status = http_status(buf, len);

		CHECK(status == HTTP_STATUS_NONE || status == HTTP_STATUS_MORE ||
		      (status >= 100 && status <= 999));
		CHECK(status != HTTP_STATUS_MORE || len < HTTP_STATUS_LEN);
		CHECK(before == HTTP_STATUS_MORE || status == before);
		before = status;
		free(buf);
	}
	return 0;
}
