import unittest

from logtally import parse_line, parse_log

LINE = '2024-03-05T10:22:01 client=c0a81f GET /shop/item/42?q=red+shoes 200 5123 34.5ms "Mozilla/5.0 (X11)"'


class ParseTest(unittest.TestCase):
    def test_fields(self):
        entry = parse_line(LINE)
        self.assertEqual(entry.when, "2024-03-05T10:22:01")
        self.assertEqual(entry.client, "c0a81f")
        self.assertEqual((entry.method, entry.target), ("GET", "/shop/item/42?q=red+shoes"))
        self.assertEqual((entry.status, entry.size, entry.millis), (200, 5123, 34.5))
        self.assertEqual(entry.agent, "Mozilla/5.0 (X11)")

    def test_path_and_query(self):
        entry = parse_line(LINE)
        self.assertEqual(entry.path, "/shop/item/42")
        self.assertEqual(entry.query, "q=red+shoes")
        self.assertEqual(parse_line(LINE.replace("?q=red+shoes", "")).query, "")

    def test_numbers_in_the_path_do_not_make_endpoints(self):
        self.assertEqual(parse_line(LINE).endpoint, "GET /shop/item/{n}")
        entry = parse_line(LINE.replace("/shop/item/42", "/v2/users/7/posts/12"))
        self.assertEqual(entry.endpoint, "GET /v2/users/{n}/posts/{n}")

    def test_no_size(self):
        self.assertEqual(parse_line(LINE.replace("5123", "-")).size, 0)

    def test_what_is_not_an_entry(self):
        self.assertIsNone(parse_line("server started"))
        self.assertIsNone(parse_line(LINE.replace("GET", "BREW")))
        self.assertIsNone(parse_line(LINE + " trailing"))
        self.assertIsNone(parse_line(LINE.replace("34.5ms", "34.5")))

    def test_log(self):
        entries, skipped = parse_log("\n".join([LINE, "", "noise", "   ", LINE + "  "]))
        self.assertEqual((len(entries), skipped), (2, 1))
        self.assertEqual(entries[0], entries[1])


if __name__ == "__main__":
    unittest.main()
