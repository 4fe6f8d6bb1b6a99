// One collective by SimGrid's own algorithms, without moving or combining data: peer COLLECTIVE BYTES
//
// Small calls are made first, with data: the first one makes communicators inside nodes and between them, which costs
// 1 ms with 256 ranks and is no part of a collective. The timed call, which moves and combines nothing, begins on all
// ranks at once and ends when the last is done.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <simgrid/s4u.hpp>
#include <smpi/smpi.h>
#include <string>

namespace simgrid::smpi {
class ActorExt { // exported, but in no header that is installed
public:
  static xbt::Extension<s4u::Actor, ActorExt> EXTENSION_ID;
  void set_replaying(bool value);
};
} // namespace simgrid::smpi

static char memory[2][1u << 27];
static const double ready = 32.0, start = 64.0;
static double last = 0.0;
static int done = 0;

static int call(const std::string& collective, int bytes)
{
  char *in = memory[0], *out = memory[1];
  int size;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  const int block = bytes / size;
  if (collective == "allreduce")
    return MPI_Allreduce(in, out, bytes, MPI_BYTE, MPI_BOR, MPI_COMM_WORLD);
  if (collective == "allgather")
    return MPI_Allgather(in, block, MPI_BYTE, out, block, MPI_BYTE, MPI_COMM_WORLD);
  if (collective == "reduce_scatter")
    return MPI_Reduce_scatter_block(in, out, block, MPI_BYTE, MPI_BOR, MPI_COMM_WORLD);
  if (collective == "alltoall")
    return MPI_Alltoall(in, block, MPI_BYTE, out, block, MPI_BYTE, MPI_COMM_WORLD);
  if (collective == "bcast")
    return MPI_Bcast(in, bytes, MPI_BYTE, 0, MPI_COMM_WORLD);
  if (collective == "reduce")
    return MPI_Reduce(in, out, bytes, MPI_BYTE, MPI_BOR, 0, MPI_COMM_WORLD);
  return -1;
}

int main(int argc, char* argv[])
{
  if (argc < 3)
    return 2;
  MPI_Init(&argc, &argv);
  const int bytes = std::atoi(argv[2]);
  int size;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (bytes < 0 || bytes > (1 << 27) || call("allreduce", 1024) || call(argv[1], std::min(bytes, 4096)))
    return 2;
  simgrid::s4u::this_actor::sleep_until(ready);
  simgrid::s4u::Actor::self()->extension<simgrid::smpi::ActorExt>()->set_replaying(true);
  simgrid::s4u::this_actor::sleep_until(start);
  call(argv[1], bytes);
  last = std::max(last, simgrid::s4u::Engine::get_clock());
  if (++done == size)
    std::printf("Collective time: %.9g seconds\n", last - start);
  std::fflush(stdout);
  MPI_Finalize();
  return 0;
}
