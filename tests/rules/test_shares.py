from gpa.rules.shares import Shares


def test_who_has_the_most_loses_the_oldest() -> None:
    kept: Shares[str, int] = Shares(most=4)
    kept.put(1, "mine", 0)
    for number in range(10):
        kept.put(2, str(number), number)
    assert kept.all() == {"mine": 0, "7": 7, "8": 8, "9": 9}
    assert (kept.get(1, "mine"), kept.get(2, "mine"), kept.get(2, "0")) == (0, None, None)


def test_one_key_may_be_kept_for_several() -> None:
    kept: Shares[str, int] = Shares(most=2)
    for uid in (1, 2, 2, 2):
        kept.put(uid, "same", uid)
    assert (kept.get(1, "same"), kept.get(2, "same")) == (1, 2)
    kept.clear()
    assert kept.all() == {}
    kept.put(3, "a", 1)
    assert kept.all() == {"a": 1}
