"""Notes of planned runs by which reports know them; apart, because reports import no deep learning library."""

NOT_TUNED = "its setting was not tuned, though the suite is of tuned ones"
TUNED_OTHERWISE = "its setting was tuned with another training, or on other data"
