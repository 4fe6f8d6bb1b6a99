// Whether one of SimGrid's own collectives gives the right result: check COLLECTIVE BYTES
//
// Each rank's data differ by rank and by position, and all are looked at afterwards. BYTES as for simgrid_peer.cpp.
#include <cstdio>
#include <cstdlib>
#include <mpi.h>
#include <string>
#include <vector>

using Word = unsigned;

static long total = 0;
static int done = 0;

static Word datum(Word rank, Word i)
{
  return rank * 2654435761u + i * (40503u + 2u * rank) + 17u;
}

int main(int argc, char* argv[])
{
  MPI_Init(&argc, &argv);
  if (argc < 3)
    return 2;
  int r, p;
  MPI_Comm_rank(MPI_COMM_WORLD, &r);
  MPI_Comm_size(MPI_COMM_WORLD, &p);
  const std::string what = argv[1];
  const int n = std::atoi(argv[2]) / static_cast<int>(sizeof(Word)), block = n / p;
  Word ranks = 0, hashed = 0, slopes = 0; // sums over the ranks of 1, of the first and of the second factor in datum
  for (Word q = 0; q < static_cast<Word>(p); q++) {
    ranks += 1;
    hashed += q * 2654435761u;
    slopes += 40503u + 2u * q;
  }
  const auto sum = [&](Word i) { return hashed + i * slopes + 17u * ranks; };

  const bool gathers = what == "allgather", exchanges = what == "alltoall", casts = what == "bcast";
  std::vector<Word> in(n + 1), out(n + 1, 0xdeadbeefu);
  for (int i = 0; i < n; i++)
    in[i] = datum(r, i);
  if (casts)
    out = r == 0 ? in : out;
  MPI_Comm world = MPI_COMM_WORLD;
  if (what == "allreduce")
    MPI_Allreduce(in.data(), out.data(), n, MPI_UNSIGNED, MPI_SUM, world);
  else if (what == "reduce")
    MPI_Reduce(in.data(), out.data(), n, MPI_UNSIGNED, MPI_SUM, 0, world);
  else if (what == "reduce_scatter")
    MPI_Reduce_scatter_block(in.data(), out.data(), block, MPI_UNSIGNED, MPI_SUM, world);
  else if (gathers)
    MPI_Allgather(in.data(), block, MPI_UNSIGNED, out.data(), block, MPI_UNSIGNED, world);
  else if (exchanges)
    MPI_Alltoall(in.data(), block, MPI_UNSIGNED, out.data(), block, MPI_UNSIGNED, world);
  else if (casts)
    MPI_Bcast(out.data(), n, MPI_UNSIGNED, 0, world);
  else
    return 2;

  const int first = what == "reduce_scatter" ? r * block : 0;
  int count = n, wrong = 0;
  if (gathers || exchanges)
    count = block * p;
  else if (what == "reduce_scatter")
    count = block;
  else if (what == "reduce" && r != 0)
    count = 0;
  for (int i = 0; i < count; i++) {
    Word wanted = sum(first + i);
    if (casts)
      wanted = datum(0, i);
    else if (gathers)
      wanted = datum(i / block, i % block);
    else if (exchanges)
      wanted = datum(i / block, r * block + i % block);
    wrong += out[i] != wanted;
  }
  total += wrong; // the ranks are threads of one process
  if (++done == p)
    std::printf("Wrong elements: %ld\n", total);
  MPI_Finalize();
  return 0;
}
