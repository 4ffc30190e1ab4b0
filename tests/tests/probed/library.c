int probed(int n)
{
	return n * 3 + 1;
}
